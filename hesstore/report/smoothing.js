// Curves through noise: running medians of one run, and the range over several runs.

/** The median of the known values in a window around each value; missing values stay missing. */
function runningMedian(values, window) {
  if (window <= 1) return values;
  const half = (window - 1) / 2;
  return values.map((value, at) =>
    isMissing(value) ? null : median(values.slice(Math.max(0, at - half), at + half + 1)),
  );
}

function median(values) {
  const sorted = values.filter((value) => !isMissing(value)).sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The lowest and highest of several curves at each grid point; null where fewer than two have a value. */
function rangeOf(curves) {
  const columns = GRID.map((_, at) => curves.map((curve) => curve[at]).filter((value) => !isMissing(value)));
  const ends = (end) => columns.map((values) => (values.length > 1 ? end(...values) : null));
  return { low: ends(Math.min), high: ends(Math.max) };
}

/** The traces of a shaded range over several curves, one for each stretch without gaps; none for a single curve. */
function rangeBand(curves, colour, more = {}) {
  if (curves.length < 2) return [];
  const { low, high } = rangeOf(curves);
  return shadedBand(low, high, colour, { name: `range over ${curves.length} runs`, ...more });
}

function shadedBand(low, high, colour, more = {}) {
  return stretches(low, high).map((indices) => ({
    type: "scatter",
    mode: "lines",
    x: [...indices, ...indices.toReversed()].map((at) => GRID[at]),
    y: [...indices.map((at) => high[at]), ...indices.toReversed().map((at) => low[at])],
    fill: "toself",
    fillcolor: transparent(colour, 0.16),
    line: { width: 0 },
    hoverinfo: "skip",
    showlegend: false,
    ...more,
  }));
}

/** The runs of neighbouring grid points at which both ends are known. */
function stretches(low, high) {
  const found = [];
  GRID.forEach((_, at) => {
    if (isMissing(low[at]) || isMissing(high[at])) return;
    if (found.length && found.at(-1).at(-1) === at - 1) found.at(-1).push(at);
    else found.push([at]);
  });
  return found.filter((indices) => indices.length > 1);
}

/** The colour "#rrggbb" with an opacity. */
function transparent(colour, opacity) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${parts.join(", ")}, ${opacity})`;
}
