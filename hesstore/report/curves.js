// Curves of single quantities along λ, in panels below each other.

const PANEL = 112; // height of a panel in pixels
const GREY = "#808791";
const SPLIT_LOOKS = [
  { color: COLOURS[0], dash: "solid" },
  { color: COLOURS[4], dash: "dash" },
];

/** The curves of a quantity with one value for each split. */
function bySplit(name) {
  return facts.splits.map((split, part) => ({
    name: split,
    look: SPLIT_LOOKS[part],
    values: (run) => run[name]?.map((row) => row?.[part] ?? null),
  }));
}

/** One curve of a quantity with one value for each grid point, or of a part of it. */
function single(name, title = "", look = { color: COLOURS[0], dash: "solid" }, part = (value) => value) {
  return { name: title, look, values: (run) => run[name]?.map((value) => (isMissing(value) ? null : part(value))) };
}

const magnitudeOfLast = (values) => {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.abs(known.at(-1)) : null;
};

/** The panels of both figures: axis title, whether the axis is logarithmic, curves, and extra traces. */
const TRAINING_PANELS = [
  { title: inUnit("loss E"), log: true, curves: bySplit("loss") },
  { title: "accuracy", curves: bySplit("accuracy") },
  { title: "‖θ‖", curves: [single("weights_norm")] },
  { title: "‖θ − θ_ref‖", curves: [single("distance")] },
  { title: inUnit("‖∇E‖"), log: true, curves: bySplit("gradient_norm") },
  { title: "stationarity", curves: [single("stationarity")] },
];
const SPECTRUM_PANELS = [
  { title: inUnit("trace of H"), curves: [single("trace")], extra: traceInterval },
  {
    title: inUnit("|μ|"),
    log: true,
    curves: [
      single("eigenvalues", "first |μ|", { color: COLOURS[0], dash: "solid" }, (values) =>
        isMissing(values[0]) ? null : Math.abs(values[0]),
      ),
      single("eigenvalues", "last |μ|", { color: COLOURS[4], dash: "dash" }, magnitudeOfLast),
      single("eigenvalue_bound", "bound on further |μ|", { color: COLOURS[2], dash: "dot" }, Math.abs),
    ],
  },
  {
    title: inUnit("lowest μ"),
    curves: [single("lowest_eigenvalues", "", { color: COLOURS[0], dash: "solid" }, (values) => values[0])],
    extra: (run, panel) => (facts.penalty_scale === null ? [] : [{ ...penaltyLine(false), ...panel }]),
  },
];

/** The 95 % interval of the trace, where it is an estimate. */
function traceInterval(run, panel) {
  if (!run.trace_error) return [];
  const end = (sign) => run.trace.map((value, at) => (isMissing(value) ? null : value + sign * run.trace_error[at]));
  return shadedBand(end(-1), end(1), COLOURS[0], panel);
}

function hasPanels(run, panels) {
  return panels.some(({ curves }) => curves.some(({ values }) => values(run)));
}

/** Stacked panels along λ with one horizontal axis; panels of quantities that the run does not have are left out. */
function curvesFigure(run, others, panels, index) {
  const shown = panels.filter(({ curves }) => curves.some(({ values }) => values(run)));
  if (!shown.length) return missingText(run, "The store has none of these quantities.");
  const data = [];
  const named = new Set();
  const height = shown.length * PANEL + 84;
  const layout = l2Layout(height, {}, index);
  const base = layout.yaxis;
  const gap = 0.12 / shown.length;
  shown.forEach((panel, at) => {
    const place = at ? `y${at + 1}` : "y";
    const curves = panel.curves.filter(({ values }) => values(run));
    for (const { values, look } of curves) {
      data.push(...rangeBand(others.map(values).filter(Boolean), look.color, { yaxis: place }));
    }
    data.push(...(panel.extra?.(run, { yaxis: place }) ?? []));
    data.push(...curves.map((curve) => curveTrace(curve, run, panel, place, named)));
    const heights = curves.flatMap(({ values }) => values(run)).filter((value) => value !== null);
    const log = panel.log && heights.length && Math.min(...heights) > 0;
    const axis = log ? { ...logAxis(panel.title, heights), nticks: 4 } : { title: { text: panel.title }, nticks: 5 };
    const top = 1 - at / shown.length;
    layout[at ? `yaxis${at + 1}` : "yaxis"] = {
      ...base,
      ...axis,
      tickfont: { size: 10 },
      title: { ...axis.title, font: { size: 11 } },
      domain: [top - 1 / shown.length + (at === shown.length - 1 ? 0 : gap), top],
      zeroline: panel.title.startsWith("lowest"),
    };
  });
  layout.xaxis.anchor = shown.length > 1 ? `y${shown.length}` : "y";
  return { data, layout: { ...layout, showlegend: true } };
}

function curveTrace({ name, look, values }, run, panel, place, named) {
  const showlegend = Boolean(name) && !named.has(name);
  named.add(name);
  const title = escapeTags(name || panel.title);
  return {
    type: "scatter",
    mode: GRID.length > DENSE_GRID && !hasIsolatedPoints(run) ? "lines" : "lines+markers",
    name: title,
    legendgroup: title,
    showlegend,
    x: GRID,
    y: values(run),
    yaxis: place,
    line: { ...look, width: 1.5 },
    marker: { size: 4 },
    hovertemplate: `${escapeTags(panel.title)}${name ? `, ${escapeTags(name)}` : ""}<br>${AXIS.symbol} = %{x:.10~g}<br>%{y:.5g}<extra></extra>`,
  };
}
