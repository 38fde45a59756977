// Figures for plotly: what a run holds → {data, layout}, or a sentence that says why there is nothing to draw.

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
const DENSE = 40; // λ above which lines carry few marks
const SEEN = 0.06; // share of the colours from which a negative cell carries its sign

/** Text for plotly, which reads some tags. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function layoutOf(height, xaxis, yaxis, more = {}) {
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
const TOUCH = !matchMedia("(hover: hover) and (pointer: fine)").matches; // a finger scrolls the page over a plot
const CONFIG = {
  displaylogo: false,
  displayModeBar: !TOUCH && "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
};

/** Decades alone where there are some, so that numbers between them do not crowd. */
function logAxis(text, values) {
  const there = values.filter((value) => value > 0);
  const decades = Math.log10(Math.max(...there) / Math.min(...there));
  return {
    title: { text },
    type: "log",
    exponentformat: "power",
    ...(decades > 1.5 ? { dtick: Math.ceil(decades / 10) } : {}),
  };
}

/** The line at the chosen λ. */
function cursor(index) {
  const line = { color: "#808791", width: 1.5, dash: "dot" };
  return [{ type: "line", x0: facts.l2[index], x1: facts.l2[index], y0: 0, y1: 1, yref: "paper", line }];
}

function alongL2(height, yaxis, index) {
  const first = facts.l2[0],
    last = facts.l2.at(-1);
  const room = 0.03 * (last - first) || 0.5 * Math.abs(first) || 1; // of one λ alone: half of it
  const xaxis = { title: { text: "L2 strength λ" }, range: [first - room, last + room] };
  return layoutOf(height, xaxis, yaxis, { shapes: cursor(index) });
}

function modeAxis(modes, more = {}) {
  return { title: { text: "mode, by |eigenvalue|", standoff: 6 }, tick0: 0, dtick: modes <= 12 ? 1 : 5, ...more };
}

/** Whether some λ between two complete ones are not: then a lone point may have no line, and needs its mark. */
function hasGaps(run) {
  const there = run.status.map((state) => STATES[state] === "complete");
  return there.slice(there.indexOf(true), there.lastIndexOf(true) + 1).includes(false);
}

function classesFigure(run, beside, quantity, split, index) {
  if (!run[quantity])
    return lacking(
      run,
      `no ${quantity === "class_skill" ? "confusion counts, from which skill is" : "accuracies of classes"}`,
    );
  const name = quantity === "class_skill" ? "skill" : "accuracy";
  const lines = (values, dashed) =>
    facts.labels.map((label, at) => ({
      type: "scatter",
      mode: "lines+markers",
      name: plain(label),
      legendgroup: plain(label),
      showlegend: !dashed,
      x: facts.l2,
      y: values[quantity].map((row) => row[split][at]),
      line: { color: COLOURS[at % COLOURS.length], width: dashed ? 1 : 1.5, dash: dashed ? "dash" : "solid" },
      marker: {
        symbol: SYMBOLS[(at + Math.floor(at / SYMBOLS.length)) % SYMBOLS.length] + (dashed ? "-open" : ""),
        size: 6,
        maxdisplayed: facts.l2.length > DENSE && !hasGaps(values) ? 20 : 0,
      },
      hovertemplate: `class ${plain(label)}${dashed ? ", dashed run" : ""}<br>λ = %{x:.10~g}<br>${name} %{y:.4f}<extra></extra>`,
    }));
  const data = [...(beside && beside[quantity] ? lines(beside, true) : []), ...lines(run, false)];
  const lowest = Math.min(0, ...data.flatMap((line) => line.y));
  const words = `${name} of the class, ${facts.splits[split]}`;
  return { data, layout: alongL2(360, { title: { text: words }, range: [lowest - 0.03, 1.03] }, index) };
}

function spectrumFigure(run, scale, index) {
  if (!run.eigenvalues) return lacking(run, "no eigenvalues");
  const log = scale === "log";
  const small = facts.l2.length > DENSE;
  const points = (chosen, name, colour, symbol) => {
    const found = { x: [], y: [], customdata: [] };
    run.eigenvalues.forEach((values, at) =>
      values.forEach((mu, mode) => {
        if (mu === null || !chosen(mu)) return;
        found.x.push(facts.l2[at]);
        found.y.push(log ? Math.abs(mu) : mu);
        found.customdata.push([mode, mu]);
      }),
    );
    const hovertemplate = "mode %{customdata[0]}<br>λ = %{x:.10~g}<br>μ = %{customdata[1]:.5g} nat<extra></extra>";
    return {
      type: "scatter",
      mode: "markers",
      name,
      ...found,
      marker: { color: colour, symbol, size: small ? 3 : 6 },
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
        "|eigenvalue| (nat)",
        data.flatMap((one) => one.y),
      )
    : { title: { text: "eigenvalue (nat)" }, zeroline: true };
  return { data, layout: alongL2(360, yaxis, index) };
}

function penaltyLine(log) {
  const curvature = facts.l2.map((l2) => 2 * facts.penalty_scale * l2);
  return {
    type: "scatter",
    mode: "lines",
    name: log ? "2cλ" : "−2cλ",
    x: facts.l2,
    y: curvature.map((value) => (log ? value || null : -value)),
    line: { color: "#808791", dash: "dash", width: 1.5 },
    hoverinfo: "skip",
  };
}

/** What the map of class × mode shows: {values (label, mode), unit, limit of the colours}, or null. */
function mapOf(run, kind, part, index) {
  const values = entry(run, kind, index)?.[part];
  if (!values || !values.some((row) => row.some((value) => value !== null))) return null;
  const largest = Math.max(...values.flat().map(Math.abs)) || 1;
  const title = {
    curvature_share: "share of the curvature along the mode",
    slope: "part of the slope along the mode (nat)",
    response: "change of the class's test accuracy",
  }[kind];
  return { values, title, limit: kind === "slope" ? largest : Math.min(largest, 1) };
}

function mapFigure(run, kind, part, index) {
  const map = mapOf(run, kind, part, index);
  if (!map)
    return lacking(
      run,
      `no ${{ curvature_share: "curvatures of classes", slope: "slopes of classes", response: "responses of classes" }[kind]} there`,
    );
  const modes = map.values[0].map((_, mode) => mode);
  const mu = entry(run, "eigenvalues", index);
  const shades = facts.look.diverging;
  const data = [
    {
      type: "heatmap",
      z: map.values,
      x: modes,
      y: facts.labels.map(plain),
      xgap: 1,
      ygap: 1,
      zmin: -map.limit,
      zmax: map.limit,
      colorscale: shades.map((colour, place) => [place / (shades.length - 1), colour]),
      text: map.values.map((row) => row.map((value) => (value < -SEEN * map.limit ? "−" : ""))),
      texttemplate: "%{text}",
      customdata: map.values.map((row) => row.map((_, mode) => short(mu ? mu[mode] : null))),
      hovertemplate: "class %{y}, mode %{x}<br>μ = %{customdata} nat<br>%{z}<extra></extra>",
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
  const layout = layoutOf(height, xaxis, yaxis, { plot_bgcolor: "#cccccc", clickanywhere: false });
  return { data, layout: { ...layout, margin: { ...layout.margin, b: 110 } } };
}

function residualsFigure(run, index) {
  const residuals = entry(run, "residual_norm", index);
  if (!residuals) return lacking(run, "no residuals");
  const converged = entry(run, "converged", index);
  const tolerance = entry(run, "tolerance", index);
  const modes = residuals.map((_, mode) => mode);
  const marks = (flag, name, colour, symbol) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: modes,
    y: residuals.map((value, mode) => (converged?.[mode] === flag && value ? value : null)),
    marker: { color: colour, symbol, size: 8 },
    hovertemplate: "mode %{x}<br>‖Hv − μv‖ = %{y:.4g} nat<extra></extra>",
  });
  const data = [marks(1, "converged", COLOURS[0], "circle"), marks(0, "not converged", COLOURS[2], "x")].filter((one) =>
    one.y.some((value) => value !== null),
  );
  if (tolerance && tolerance.some((value) => value !== null)) {
    const line = { color: "#808791", dash: "dash", width: 1.5, shape: "hvh" };
    data.push({ type: "scatter", mode: "lines", name: "tolerance", x: modes, y: tolerance, line, hoverinfo: "skip" });
  }
  if (!data.length) return lacking(run, "no residuals there");
  const yaxis = logAxis(
    "residual norm (nat)",
    data.flatMap((one) => one.y),
  );
  const layout = layoutOf(320, modeAxis(modes.length), yaxis, { clickanywhere: false, showlegend: true });
  return { data, layout };
}

function lacking(run, what) {
  const complete = run.status.some((state) => STATES[state] === "complete");
  return complete ? `The store has ${what}.` : "No λ of this run is complete.";
}
