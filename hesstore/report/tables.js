// Tables. Whatever comes from the store becomes text nodes, never markup.

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

function fillPairs(table, run, index) {
  const [mu, residual, tolerance, converged] = ["eigenvalues", "residual_norm", "tolerance", "converged"].map((name) =>
    entry(run, name, index),
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
  return fill(table, "", ["mode", "μ (nat)", "‖Hv − μv‖ (nat)", "tolerance", "converged"], rows);
}

/** False if there are no counts. */
function fillConfusion(table, run, split, index) {
  const counts = entry(run, "confusion", index)?.[split];
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
      facts.splits.map((_, part) => short(entry(run, name, index)?.[part]?.[at])),
    ),
  ]);
  const heads = ["accuracy", "skill"].flatMap((name) => facts.splits.map((split) => `${split} ${name}`));
  fill(table, "", ["class", ...heads], rows);
}

function fillRecord(table, run, index) {
  const of = (name) => entry(run, name, index);
  const both = (name, write) => facts.splits.map((split, part) => `${split} ${write(of(name)?.[part])}`).join(", ");
  const nat = (value) => measured(value, "nat");
  const pairs = converged(run, index);
  fill(
    table,
    "",
    [],
    [
      ["accuracy", both("accuracy", (value) => fixed(value, 4))],
      ["loss E", both("loss", nat)],
      ["penalty", nat(of("penalty"))],
      ["epochs", short(of("epochs"), 9)],
      ["time to fit", measured(of("fit_seconds"), "s")],
      ["gradient norm", both("gradient_norm", nat)],
      ["stationarity", short(of("stationarity"))],
      ["norm of the weights", short(of("weights_norm"))],
      ["trace of H", of("trace") === null ? "–" : `${short(of("trace"))} ± ${measured(of("trace_error"), "nat")}`],
      ["converged", pairs === null ? "–" : `${pairs} of ${facts.modes} pairs`],
      ["Hessian products", short(of("matvecs"), 9)],
      ["time to analyse", measured(of("analysis_seconds"), "s")],
      ["solver", of("solver_message") || "–"],
    ],
  );
}

/** Columns of the table of all λ: heading, value to sort by (null sorts last), text. */
const COLUMNS = [
  ["λ", (run, index) => facts.l2[index], (value) => String(value)],
  ["status", (run, index) => STATES[run.status[index]], (value) => value],
  ["test acc.", (run, index) => entry(run, "accuracy", index)?.[TEST], (value) => fixed(value, 4)],
  ["train acc.", (run, index) => entry(run, "accuracy", index)?.[TRAIN], (value) => fixed(value, 4)],
  [
    "worst class",
    (run, index) => worst(run, index)?.accuracy,
    (value, run, index) => (value === null ? "–" : `${worst(run, index).label}: ${fixed(value)}`),
  ],
  ["known", known, (value) => short(value)],
  ["test loss", (run, index) => entry(run, "loss", index)?.[TEST], (value) => short(value)],
  ["train loss", (run, index) => entry(run, "loss", index)?.[TRAIN], (value) => short(value)],
  ["μ₁", (run, index) => entry(run, "eigenvalues", index)?.[0], (value) => short(value)],
  ["converged", converged, (value) => (value === null ? "–" : `${value}/${facts.modes}`)],
  ["epochs", (run, index) => entry(run, "epochs", index), (value) => short(value, 9)],
  ["products", (run, index) => entry(run, "matvecs", index), (value) => short(value, 9)],
  ["fit (s)", (run, index) => entry(run, "fit_seconds", index), (value) => fixed(value, 1)],
  ["analysis (s)", (run, index) => entry(run, "analysis_seconds", index), (value) => fixed(value, 1)],
];

/** The table of all λ of a run, sorted by λ; returns its rows by the index of their λ. */
function fillAll(table, id, run) {
  const rows = facts.l2.map((l2, index) => {
    const values = COLUMNS.map(([, value]) => value(run, index) ?? null);
    const [first, ...rest] = COLUMNS.map(([, , text], column) => text(values[column], run, index));
    const link = element("a", { href: hashOf(id, index) }, first);
    const row = element(
      "tr",
      {},
      element("th", { scope: "row" }, link),
      ...rest.map((text) => element("td", {}, text)),
    );
    return { row, values };
  });
  const body = element("tbody", {}, ...rows.map(({ row }) => row));
  const heads = COLUMNS.map(([name], column) => {
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
      body.append(...[...rows].sort(by(column, down ? -1 : 1)).map(({ row }) => row));
    });
    return head;
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);
  return rows.map(({ row }) => row);
}

function by(column, sign) {
  return ({ values: { [column]: a } }, { values: { [column]: b } }) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };
}
