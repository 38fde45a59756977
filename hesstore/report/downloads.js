// Files with the numbers of a figure, a table or a run, which the browser saves without a network request.

/** The numbers that a figure draws, as CSV in long form: one line per point or cell. */
function figureCsv({ data, layout }) {
  const title = (axis) => layout[axis]?.title?.text ?? axis;
  const axisName = (trace) => (trace.yaxis && trace.yaxis !== "y" ? `yaxis${trace.yaxis.slice(1)}` : "yaxis");
  const lines = [["quantity", "curve", title("xaxis"), "value"]];
  for (const trace of data) {
    if (trace.type === "heatmap") {
      lines[0] = [title("xaxis"), title("yaxis"), trace.colorbar.title.text];
      trace.z.forEach((row, down) => row.forEach((value, across) => lines.push([trace.x[across], trace.y[down], value])));
    } else if (!trace.fill) {
      trace.x.forEach((x, at) => {
        if (!isMissing(trace.y[at])) lines.push([title(axisName(trace)), curveName(trace), x, trace.y[at]]);
      });
    }
  }
  return csvText(lines);
}

/** The name of a curve; values behind a running median, and the run for comparison, are named as such. */
function curveName({ name, opacity, line }) {
  if (opacity && opacity < 1) return `${name}, single grid points`;
  return line?.dash === "dash" && facts.labels.includes(name) ? `${name}, run for comparison` : name;
}

function csvText(lines) {
  const cell = (value) => {
    const text = isMissing(value) ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return lines.map((line) => `${line.map(cell).join(",")}\n`).join("");
}

/** The table of all grid points with its exact numbers. */
function gridPointsCsv(run) {
  const columns = shownColumns(run);
  const rows = GRID.map((_, index) => columns.map(([, value]) => value(run, index)));
  return csvText([columns.map(([name]) => name), ...rows]);
}

function lostCsv(run) {
  const head = ["split", "class", "lost at", "interval from", "interval to", "reason"];
  const rows = (run.lost ?? []).flatMap((losses, part) =>
    losses.map((loss, at) => [facts.splits[part], facts.labels[at], ...loss]),
  );
  return csvText([head, ...rows]);
}

/** Everything that the page contains about a run, with the names of the classes and the λ of the grid. */
function runJson(id, run) {
  const { look, ...rest } = facts;
  return JSON.stringify({ ...rest, run: { ...facts.runs.find((one) => one.id === id), ...run } });
}

function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Save the numbers that a button stands for. */
function download(what) {
  const { id, run } = state;
  const stem = `${document.title.replace(/\.zarr$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "-")}-run-${id}`;
  if (what === "run") return save(`${stem}.json`, runJson(id, run), "application/json");
  const text = { table: () => gridPointsCsv(run), lost: () => lostCsv(run) }[what] ?? (() => figureCsv(latestFigures.get(what)));
  return save(`${stem}-${what}.csv`, text(), "text/csv");
}
