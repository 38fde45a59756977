// Figures for plotly: the data of a run → {data, layout}, or a sentence that explains why nothing can be drawn.

const SYMBOLS = [
  "circle",
  "square",
  "triangle-up",
  "triangle-down",
  "diamond",
  "cross",
  "x",
  "triangle-left",
  "triangle-right",
  "star",
];
const COLOURS = facts.look.classes;
const DENSE_GRID = 40; // number of grid points above which markers are small
const SIGN_FROM = 0.06; // share of the colour range above which a negative cell shows a minus sign

/** Text for plotly, which interprets some tags. */
function escapeTags(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function plotLayout(height, xaxis, yaxis, more = {}) {
  const axis = { automargin: true, showline: true, zeroline: false, ticks: "outside", ticklen: 4, fixedrange: TOUCH };
  return {
    height,
    margin: { l: 58, r: 12, t: 10, b: 44 },
    font: { family: "system-ui, sans-serif", size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    clickanywhere: true,
    dragmode: TOUCH ? false : "zoom",
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...more,
  };
}
// on touch screens a finger scrolls the page, not the plot
const TOUCH = !matchMedia("(hover: hover) and (pointer: fine)").matches;
const CONFIG = {
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  displayModeBar: !TOUCH && "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
};

/** A logarithmic axis; with several decades only they have numbers, so that labels do not overlap. */
function logAxis(text, values) {
  const positive = values.filter((value) => value > 0);
  const decades = Math.log10(Math.max(...positive) / Math.min(...positive));
  return {
    title: { text },
    type: "log",
    exponentformat: "power",
    ...(decades > 1.5 ? { dtick: Math.ceil(decades / 10) } : {}),
  };
}

/** The line at the chosen grid point. */
function cursor(index) {
  const line = { color: "#808791", width: 1.5, dash: "dot" };
  return [{ type: "line", x0: GRID[index], x1: GRID[index], y0: 0, y1: 1, yref: "paper", line }];
}

function l2Layout(height, yaxis, index) {
  const first = GRID[0],
    last = GRID.at(-1);
  const room = 0.03 * (last - first) || 0.5 * Math.abs(first) || 1; // for a single grid point: half of its λ
  const xaxis = { title: { text: AXIS.label }, range: [first - room, last + room] };
  return plotLayout(height, xaxis, yaxis, { shapes: cursor(index) });
}

function modeAxis(modes, more = {}) {
  return { title: { text: facts.mode_label, standoff: 6 }, tick0: 0, dtick: modes <= 12 ? 1 : 5, ...more };
}

/** Whether a complete grid point has no complete neighbour: it has no line, so it needs its marker. */
function hasIsolatedPoints(run) {
  return run.status.some(
    (_, index) => isComplete(run, index) && !isComplete(run, index - 1) && !isComplete(run, index + 1),
  );
}

/**
 * The skills or accuracies of the classes: lines through all grid points, or running medians with the values faint
 * behind them. `others` are the runs whose range is shaded, `dashed` is a run for comparison or null.
 */
function classesFigure(run, { dashed, others, window }, quantity, split, index) {
  if (!run[quantity]) {
    const what = quantity === "class_skill" ? "confusion counts, which the skill needs" : "class accuracies";
    return missingText(run, `The store has no ${what}.`);
  }
  const name = quantity === "class_skill" ? "skill" : "accuracy";
  const smooth = (values, at) =>
    runningMedian(
      values[quantity].map((row) => row[split][at]),
      window,
    );
  const lines = (values, isDashed) =>
    facts.labels.map((label, at) => ({
      type: "scatter",
      mode: window > 1 && !hasIsolatedPoints(values) ? "lines" : "lines+markers",
      name: escapeTags(label),
      legendgroup: escapeTags(label),
      showlegend: !isDashed,
      x: GRID,
      y: smooth(values, at),
      line: { color: COLOURS[at % COLOURS.length], width: isDashed ? 1 : window > 1 ? 2 : 1.5, dash: isDashed ? "dash" : "solid" },
      marker: {
        symbol: symbolOf(at) + (isDashed ? "-open" : ""),
        size: 6,
        maxdisplayed: GRID.length > DENSE_GRID && !hasIsolatedPoints(values) ? 20 : 0,
      },
      hovertemplate: `class ${escapeTags(label)}${isDashed ? ", dashed run" : ""}<br>${AXIS.symbol} = %{x:.10~g}<br>${window > 1 ? "median " : ""}${name} %{y:.4f}<extra></extra>`,
    }));
  const points = facts.labels.map((label, at) => ({
    type: "scatter",
    mode: "markers",
    name: escapeTags(label),
    legendgroup: escapeTags(label),
    showlegend: false,
    x: GRID,
    y: run[quantity].map((row) => row[split][at]),
    marker: { color: COLOURS[at % COLOURS.length], symbol: symbolOf(at), size: 4 },
    opacity: 0.22,
    hovertemplate: `class ${escapeTags(label)}<br>${AXIS.symbol} = %{x:.10~g}<br>${name} %{y:.4f}<extra></extra>`,
  }));
  const bands = facts.labels.flatMap((label, at) =>
    rangeBand(
      others.filter((one) => one[quantity]).map((one) => smooth(one, at)),
      COLOURS[at % COLOURS.length],
      { legendgroup: escapeTags(label) },
    ),
  );
  const data = [
    ...bands,
    ...(window > 1 ? points : []),
    ...(dashed && dashed[quantity] ? lines(dashed, true) : []),
    ...lines(run, false),
  ];
  const lowest = Math.min(0, ...data.flatMap((line) => line.y));
  const words = `${facts.splits[split]} ${name} of the class`;
  return { data, layout: l2Layout(380, { title: { text: words }, range: [lowest - 0.03, 1.03] }, index) };
}

function symbolOf(at) {
  return SYMBOLS[(at + Math.floor(at / SYMBOLS.length)) % SYMBOLS.length];
}

function spectrumFigure(run, scale, index) {
  if (!run.eigenvalues) return missingText(run, "The store has no eigenvalues.");
  const log = scale === "log";
  const isDense = GRID.length > DENSE_GRID;
  const points = (isChosen, name, colour, symbol) => {
    const columns = { x: [], y: [], customdata: [] };
    run.eigenvalues.forEach((values, at) =>
      values.forEach((mu, mode) => {
        if (mu === null || !isChosen(mu)) return;
        columns.x.push(GRID[at]);
        columns.y.push(log ? Math.abs(mu) : mu);
        columns.customdata.push([mode, mu]);
      }),
    );
    const hovertemplate = `mode %{customdata[0]}<br>${AXIS.symbol} = %{x:.10~g}<br>μ = %{customdata[1]:.5g} ${UNIT}<extra></extra>`;
    return {
      type: "scatter",
      mode: "markers",
      name,
      ...columns,
      marker: { color: colour, symbol, size: isDense ? 3 : 6 },
      hovertemplate,
    };
  };
  const data = [
    points((mu) => mu > 0, "positive", COLOURS[0], "circle"),
    points((mu) => mu < 0, "negative", COLOURS[2], "square-open"),
    ...(log ? [] : [points((mu) => mu === 0, "zero", "#808791", "circle")]),
  ].filter((one) => one.x.length);
  if (facts.penalty_scale !== null) data.push(penaltyLine(log));
  const yaxis = log
    ? logAxis(
        inUnit("|eigenvalue|"),
        data.flatMap((one) => one.y),
      )
    : { title: { text: inUnit("eigenvalue") }, zeroline: true };
  return { data, layout: l2Layout(360, yaxis, index) };
}

function penaltyLine(log) {
  const curvature = GRID.map((value) => 2 * facts.penalty_scale * (facts.l2 ?? value));
  return {
    type: "scatter",
    mode: "lines",
    name: log ? "2cλ" : "−2cλ",
    x: GRID,
    y: curvature.map((value) => (log ? value || null : -value)),
    line: { color: "#808791", dash: "dash", width: 1.5 },
    hoverinfo: "skip",
  };
}

/** The map of class × mode as {values (label, mode), title, limit of the colours}, or null. */
function mapOf(run, kind, part, index) {
  const values = valueAt(run, kind, index)?.[part];
  if (!values || !values.some((row) => row.some((value) => value !== null))) return null;
  const largest = Math.max(...values.flat().map(Math.abs)) || 1;
  const title = {
    curvature_share: "share of the curvature along the mode",
    slope: inUnit("part of the slope along the mode"),
    response: "change of the class's test accuracy",
  }[kind];
  return { values, title, limit: kind === "slope" ? largest : Math.min(largest, 1) };
}

function mapFigure(run, kind, part, index) {
  const map = mapOf(run, kind, part, index);
  if (!map) {
    const what = { curvature_share: "curvatures", slope: "slopes", response: "responses" }[kind];
    return missingText(run, `This grid point has no class ${what}.`);
  }
  const modes = map.values[0].map((_, mode) => mode);
  const mu = valueAt(run, "eigenvalues", index);
  const shades = facts.look.diverging;
  const data = [
    {
      type: "heatmap",
      z: map.values,
      x: modes,
      y: facts.labels.map(escapeTags),
      xgap: 1,
      ygap: 1,
      zmin: -map.limit,
      zmax: map.limit,
      colorscale: shades.map((colour, place) => [place / (shades.length - 1), colour]),
      text: map.values.map((row) => row.map((value) => (value < -SIGN_FROM * map.limit ? "−" : ""))),
      texttemplate: "%{text}",
      customdata: map.values.map((row) => row.map((_, mode) => short(mu ? mu[mode] : null))),
      hovertemplate: `class %{y}, mode %{x}<br>μ = %{customdata} ${UNIT}<br>%{z}<extra></extra>`,
      hoverongaps: false,
      colorbar: {
        orientation: "h",
        y: -0.22,
        yanchor: "top",
        thickness: 10,
        len: 0.9,
        title: { text: map.title, side: "bottom" },
      },
    },
  ];
  const height = 170 + 22 * Math.max(facts.labels.length, 5);
  const xaxis = modeAxis(modes.length, { showgrid: false, showline: false });
  const yaxis = { title: { text: "class" }, type: "category", autorange: "reversed", showgrid: false, showline: false };
  const layout = plotLayout(height, xaxis, yaxis, { plot_bgcolor: "#cccccc", clickanywhere: false });
  return { data, layout: { ...layout, margin: { ...layout.margin, b: 110 } } };
}

/** The overlap of the spans at all pairs of some grid points. */
function overlapFigure(run, index) {
  if (!run.overlap) return missingText(run, "The page has no overlaps of this run.");
  const { indices, rows, k } = run.overlap;
  const l2 = indices.map((at) => GRID[at]);
  const at = (a, b) => rows[Math.max(a, b)][Math.min(a, b)];
  const shades = facts.look.sequential;
  const data = [
    {
      type: "heatmap",
      x: l2,
      y: l2,
      z: rows.map((_, a) => rows.map((_, b) => (at(a, b) === null ? null : at(a, b) / 1000))),
      zmin: 0,
      zmax: 1,
      colorscale: shades.map((colour, place) => [place / (shades.length - 1), colour]),
      hoverongaps: false,
      hovertemplate: `${AXIS.symbol} = %{x:.10~g}<br>other ${AXIS.symbol} = %{y:.10~g}<br>overlap %{z:.3f}<extra></extra>`,
      colorbar: {
        thickness: 10,
        title: { text: `overlap, first ${k} eigenvectors`, side: "right" },
      },
    },
  ];
  const axis = { range: [l2[0], l2.at(-1)], showgrid: false };
  const layout = plotLayout(
    400,
    { title: { text: AXIS.label }, ...axis },
    { title: { text: `other ${AXIS.symbol}` }, ...axis },
    { plot_bgcolor: "#cccccc", shapes: cursor(index) },
  );
  return { data, layout };
}

function residualsFigure(run, index) {
  const residuals = valueAt(run, "residual_norm", index);
  if (!residuals) return missingText(run, "The store has no residual norms.");
  const converged = valueAt(run, "converged", index);
  const tolerance = valueAt(run, "tolerance", index);
  const modes = residuals.map((_, mode) => mode);
  const marks = (flag, name, colour, symbol) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: modes,
    y: residuals.map((value, mode) => (converged?.[mode] === flag && value ? value : null)),
    marker: { color: colour, symbol, size: 8 },
    hovertemplate: `mode %{x}<br>‖Hv − μv‖ = %{y:.4g} ${UNIT}<extra></extra>`,
  });
  const data = [marks(1, "converged", COLOURS[0], "circle"), marks(0, "not converged", COLOURS[2], "x")].filter((one) =>
    one.y.some((value) => value !== null),
  );
  if (tolerance && tolerance.some((value) => value !== null)) {
    const line = { color: "#808791", dash: "dash", width: 1.5, shape: "hvh" };
    data.push({ type: "scatter", mode: "lines", name: "tolerance", x: modes, y: tolerance, line, hoverinfo: "skip" });
  }
  if (!data.length) return missingText(run, "This grid point has no residual norms.");
  const yaxis = logAxis(
    inUnit("residual norm"),
    data.flatMap((one) => one.y),
  );
  const layout = plotLayout(320, modeAxis(modes.length), yaxis, { clickanywhere: false, showlegend: true });
  return { data, layout };
}

/** `text`, or a sentence that applies to the whole run. */
function missingText(run, text) {
  return run.status.some((_, index) => isComplete(run, index)) ? text : "This run has no complete grid point.";
}
