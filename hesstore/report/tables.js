// Tables. Texts of the store become text nodes, never markup.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function fill(table, caption, head, rows) {
  const heading = element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)));
  table.replaceChildren(
    ...(caption ? [element("caption", {}, caption)] : []),
    ...(head.length ? [element("thead", {}, heading)] : []),
    element(
      "tbody",
      {},
      ...rows.map(([name, ...cells]) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, name),
          ...cells.map((cell) => (cell instanceof Node ? cell : element("td", {}, cell))),
        ),
      ),
    ),
  );
}

function fillMap(table, run, kind, part, index) {
  const map = mapOf(run, kind, part, index);
  table.closest("details").hidden = !map;
  if (!map) return table.replaceChildren();
  const write = kind === "slope" ? (value) => short(value) : (value) => fixed(value);
  const columns = facts.labels.map((label) => `class ${label}`);
  const rows = map.values[0].map((_, mode) => [String(mode), ...map.values.map((row) => write(row[mode]))]);
  return fill(table, map.title, ["mode", ...columns], rows);
}

/** Fill the table of the λ at which each class is lost: of the run, of the run for comparison, and their mean. */
function fillLost(table, run, other, split) {
  const { direction } = facts.runs.find((one) => one.id === state.id);
  const mean = facts.lost_means[direction];
  const ofRun = (losses, at) => {
    const [l2, low, high, reason] = losses?.[split][at] ?? [null, null, null, ""];
    return reason ? [reason, "–"] : [short(l2), intervalText(low, high)];
  };
  const rows = facts.labels.map((label, at) => [
    label,
    ...ofRun(run.lost, at),
    ...(other?.lost ? ofRun(other.lost, at) : []),
    ...(mean ? meanTexts(mean.means[split][at]) : []),
  ]);
  const head = ["class", `lost at ${AXIS.symbol}`, "95 % interval"];
  if (other?.lost) head.push("run for comparison", "95 % interval");
  if (mean) head.push(`mean of ${mean.runs} runs`, "95 % interval");
  fill(table, `${facts.splits[split]} skill`, head, rows);
}

function meanTexts([l2, low, high]) {
  return isMissing(l2) ? ["–", "–"] : [short(l2), isMissing(low) ? "–" : intervalText(low, high)];
}

function intervalText(low, high) {
  const end = (value) => (isMissing(value) ? "…" : short(value));
  return `${end(low)} to ${end(high)}`;
}

function fillPairs(table, run, index) {
  const [mu, residual, tolerance, converged] = ["eigenvalues", "residual_norm", "tolerance", "converged"].map((name) =>
    valueAt(run, name, index),
  );
  table.closest("details").hidden = !mu;
  if (!mu) return table.replaceChildren();
  const yes = (flag) => ["no", "yes"][flag] ?? "–";
  const rows = mu.map((value, mode) => [
    String(mode),
    short(value, 8),
    short(residual?.[mode]),
    short(tolerance?.[mode]),
    value === null ? "not found" : yes(converged?.[mode]),
  ]);
  return fill(table, "", ["mode", inUnit("μ"), inUnit("‖Hv − μv‖"), "tolerance", "converged"], rows);
}

/** Fill the table of confusion counts; return false if there are no counts. */
function fillConfusion(table, run, split, index) {
  const counts = valueAt(run, "confusion", index)?.[split];
  if (!counts || counts.flat().every((number) => number === null)) {
    table.replaceChildren();
    return false;
  }
  const rows = counts.map((row, label) => {
    const total = row.reduce((sum, number) => sum + number, 0);
    const cells = row.map((number, pred) => {
      const cell = element("td", pred === label ? { class: "right" } : {}, String(number));
      if (number) cell.style.background = `rgba(var(--shade), ${(0.08 + 0.5 * (number / total)).toFixed(3)})`;
      return cell;
    });
    return [facts.labels[label], ...cells];
  });
  fill(table, `${facts.splits[split]} split`, ["", ...facts.labels], rows);
  return true;
}

function fillClasses(table, run, index) {
  const rows = facts.labels.map((label, at) => [
    label,
    ...["class_accuracy", "class_skill"].flatMap((name) =>
      facts.splits.map((_, part) => short(valueAt(run, name, index)?.[part]?.[at])),
    ),
  ]);
  const heads = ["accuracy", "skill"].flatMap((name) => facts.splits.map((split) => `${split} ${name}`));
  fill(table, "", ["class", ...heads], rows);
}

function fillRecord(table, run, index) {
  const of = (name) => valueAt(run, name, index);
  const both = (name, write) => facts.splits.map((split, part) => `${split} ${write(of(name)?.[part])}`).join(", ");
  const nat = (value) => withUnit(value, UNIT);
  const pairs = countConverged(run, index);
  const entries = [
    ["accuracy", both("accuracy", (value) => fixed(value, 4)), run.accuracy],
    ["loss E", both("loss", nat), run.loss],
    ["penalty term", nat(of("penalty")), run.penalty],
    ["epochs", short(of("epochs"), 9), run.epochs],
    ["fit time", withUnit(of("fit_seconds"), "s"), run.fit_seconds],
    ["gradient norm", both("gradient_norm", nat), run.gradient_norm],
    ["stationarity", short(of("stationarity")), run.stationarity],
    ["norm of the weights", short(of("weights_norm")), run.weights_norm],
    ["distance to the centre", short(of("distance")), run.distance],
    ["trace of H", traceText(of("trace"), of("trace_error")), run.trace],
    ["lowest eigenvalue", nat(of("lowest_eigenvalues")?.[0]), run.lowest_eigenvalues],
    ["converged pairs", pairs === null ? "–" : `${pairs} of ${facts.modes}`, run.converged],
    ["spectrum", of("spectrum") || "–", run.spectrum?.some(Boolean)],
    ["Hessian products", short(of("matvecs"), 9), run.matvecs],
    ["analysis time", withUnit(of("analysis_seconds"), "s"), run.analysis_seconds],
    ["solver message", of("solver_message") || "–", run.solver_message?.some(Boolean)],
  ];
  fill(
    table,
    "",
    [],
    entries.filter(([, , has]) => has).map(([name, text]) => [name, text]),
  );
}

/** The trace with its 95 % interval, if it is an estimate. */
function traceText(trace, error) {
  if (trace === null) return "–";
  return error ? `${short(trace)} ± ${withUnit(error, UNIT)} (95 %)` : withUnit(trace, UNIT);
}

/** Columns of the table of all grid points: heading, value to sort by (null comes last), text. */
const COLUMNS = [
  [AXIS.symbol, (run, index) => GRID[index], (value) => String(value)],
  ["status", (run, index) => STATES[run.status[index]], (value) => value],
  ["test acc.", (run, index) => valueAt(run, "accuracy", index)?.[TEST], (value) => fixed(value, 4)],
  ["train acc.", (run, index) => valueAt(run, "accuracy", index)?.[TRAIN], (value) => fixed(value, 4)],
  [
    "worst class",
    (run, index) => worstClass(run, index)?.accuracy,
    (value, run, index) => (value === null ? "–" : `${worstClass(run, index).label}: ${fixed(value)}`),
  ],
  ["known classes", countKnownClasses, (value) => short(value)],
  ["test loss", (run, index) => valueAt(run, "loss", index)?.[TEST], (value) => short(value)],
  ["train loss", (run, index) => valueAt(run, "loss", index)?.[TRAIN], (value) => short(value)],
  ["μ₁", (run, index) => valueAt(run, "eigenvalues", index)?.[0], (value) => short(value)],
  ["converged", countConverged, (value) => (value === null ? "–" : `${value}/${facts.modes}`)],
  [
    "spectrum",
    (run, index) => valueAt(run, "complete_to", index),
    (_, run, index) => valueAt(run, "spectrum", index) || "–",
  ],
  ["epochs", (run, index) => valueAt(run, "epochs", index), (value) => short(value, 9)],
  ["products", (run, index) => valueAt(run, "matvecs", index), (value) => short(value, 9)],
  ["fit (s)", (run, index) => valueAt(run, "fit_seconds", index), (value) => fixed(value, 1)],
  ["analysis (s)", (run, index) => valueAt(run, "analysis_seconds", index), (value) => fixed(value, 1)],
];

/** The columns in which a run has at least one value. */
function shownColumns(run) {
  return COLUMNS.filter(([, value]) => GRID.some((_, index) => !isMissing(value(run, index))));
}

/** Fill the table of all grid points of a run, sorted by λ; return its rows in the order of the grid. */
function fillGridPoints(table, id, run) {
  const columns = shownColumns(run);
  const rows = GRID.map((_, index) => {
    const values = columns.map(([, value]) => value(run, index) ?? null);
    const [first, ...rest] = columns.map(([, , text], column) => text(values[column], run, index));
    const link = element("a", { href: makeHash(id, index) }, first);
    const row = element(
      "tr",
      {},
      element("th", { scope: "row" }, link),
      ...rest.map((text) => element("td", {}, text)),
    );
    return { row, values };
  });
  const body = element("tbody", {}, ...rows.map(({ row }) => row));
  const heads = columns.map(([name], column) => {
    const arrow = element("span", { "aria-hidden": "true" }, column === 0 ? " ▲" : "");
    const button = element("button", { type: "button" }, name, arrow);
    const head = element("th", { scope: "col", "aria-sort": column === 0 ? "ascending" : "none" }, button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) {
        other.setAttribute("aria-sort", "none");
        other.querySelector("span").textContent = "";
      }
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      arrow.textContent = down ? " ▼" : " ▲";
      body.append(...[...rows].sort(compareBy(column, down ? -1 : 1)).map(({ row }) => row));
    });
    return head;
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);
  return rows.map(({ row }) => row);
}

/** Compare two rows by the values of a column; null comes last. */
function compareBy(column, sign) {
  return ({ values: { [column]: a } }, { values: { [column]: b } }) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };
}
