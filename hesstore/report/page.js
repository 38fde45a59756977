// The state of the page, a run and a grid point of it, and the drawing of both.

const $ = (id) => document.getElementById(id);
const state = { id: null, run: null, other: null, siblings: [], index: 0, turn: 0 };
let rows = [];
let drawing; // a promise of everything that is drawn so far
const latestFigures = new Map(); // the last figure that was requested for each plot

function makeHash(id, index) {
  return `#run=${id}&${AXIS.name}=${GRID[index]}`;
}

/** The run and grid point that the end of an address names, as {id, index}; index is null if it names no λ. */
function parseHash(hash) {
  const words = new URLSearchParams(hash.slice(1));
  const run = facts.runs.find((one) => String(one.id) === words.get("run"));
  const l2 = words.has(AXIS.name) ? Number(words.get(AXIS.name)) : NaN;
  const first = facts.runs.find((one) => one.counts.complete) ?? facts.runs[0];
  return { id: (run ?? first).id, index: Number.isFinite(l2) ? nearestIndex(l2) : null };
}

async function chooseRun(id, index) {
  const turn = ++state.turn;
  const run = await loadRun(id);
  const isNewRun = state.id !== id;
  const otherId = isNewRun ? offerOtherRuns(id) : null;
  const other = isNewRun ? await (otherId === null ? null : loadRun(otherId)) : state.other;
  if (turn !== state.turn) return; // another run was chosen while these were unpacked
  const siblings = isNewRun ? [] : state.siblings;
  Object.assign(state, { id, run, other, siblings, index: index ?? (isNewRun ? run.start : state.index) });
  if (isNewRun) {
    $("run").value = String(id);
    rows = fillGridPoints($("table"), id, run);
    showGaps();
    hideFigures();
    offerOptions();
    drawAlong();
    loadSiblings(id, turn);
  }
  showGridPoint();
}

/** Load the runs whose range is shaded, which are the complete ones in the direction of the run, and draw it. */
async function loadSiblings(id, turn) {
  const ids = siblingsOf(id);
  if (ids.length < 2) return;
  const siblings = await Promise.all(ids.map(loadRun));
  if (turn !== state.turn) return;
  state.siblings = siblings;
  drawAlong();
}

function siblingsOf(id) {
  const { direction } = facts.runs.find((run) => run.id === id);
  return facts.runs.filter((run) => run.direction === direction && run.counts.complete).map((run) => run.id);
}

/** Enable the options of the curves, or say why they have no effect. */
function offerOptions() {
  const { direction } = facts.runs.find((run) => run.id === state.id);
  const count = siblingsOf(state.id).length;
  $("range-text").textContent = count > 1 ? `range over the ${count} runs with ${AXIS.symbol} ${direction}` : "range over several runs";
  explain($("range"), count > 1 ? "" : `only one run with ${AXIS.symbol} ${direction} has complete grid points`);
  $("smooth-text").textContent = facts.window > 1 ? `running median of ${facts.window} grid points` : "running median";
  explain($("smooth"), facts.window > 1 ? "" : `the grid has only ${GRID.length} points`);
  const has = (name) => Boolean(state.run[name]) || !hasComplete(state.run);
  offer($("quantity"), (value) => (has(value) ? "" : "no confusion counts"));
  offer($("map"), (value) => (has(value) ? "" : value === "response" ? "not recorded, see --response" : "not recorded"));
}

/** Disable a control if there is a reason, and write the reason next to it; the empty reason enables it. */
function explain(control, reason) {
  control.disabled = Boolean(reason);
  if (control.type === "checkbox" && reason) control.checked = false;
  const note = $(`${control.id}-reason`);
  note.textContent = reason ? `(${reason})` : "";
}

/** Disable the options of a select that have a reason, write it behind their names, and choose another option. */
function offer(select, reasonOf) {
  for (const option of select.options) {
    option.dataset.name ??= option.textContent;
    const reason = reasonOf(option.value);
    option.disabled = Boolean(reason);
    option.textContent = option.dataset.name + (reason ? ` (${reason})` : "");
  }
  if (select.selectedOptions[0]?.disabled) select.value = [...select.options].find((one) => !one.disabled)?.value ?? "";
}

function hasComplete(run) {
  return run.status.some((_, index) => isComplete(run, index));
}

/** Hide the figures for which the whole run has no data, and name them. */
function hideFigures() {
  const { run } = state;
  const missing = [];
  for (const figure of document.querySelectorAll("figure[data-needs]")) {
    const shown = !hasComplete(run) || FIGURES[figure.dataset.needs](run);
    figure.hidden = !shown;
    if (!shown) missing.push(figure.querySelector("h3").firstChild.textContent.trim().toLowerCase());
  }
  $("missing").hidden = !missing.length;
  $("missing").textContent = `Left out, because the page has no data for them: ${missing.join(", ")}. ${facts.advice}`;
}

/** Whether a run has the data of the figures that not every store can fill. */
const FIGURES = {
  spectrum: (run) => run.eigenvalues,
  curvature: (run) => hasPanels(run, SPECTRUM_PANELS),
  overlap: (run) => run.overlap,
  lost: (run) => run.lost,
  modes: (run) => run.curvature_share || run.response,
  residuals: (run) => run.residual_norm,
};

function drawAlong() {
  drawClasses();
  drawSpectrum();
  const others = $("range").checked ? state.siblings : [];
  for (const [plot, panels] of [
    ["training", TRAINING_PANELS],
    ["curvature", SPECTRUM_PANELS],
  ]) {
    draw(plot, curvesFigure(state.run, others, panels, state.index)).then(() => listenToClicks(plot));
  }
  draw("overlap", overlapFigure(state.run, state.index)).then(() => listenToClicks("overlap"));
  const { overlap } = state.run;
  if (!overlap) return;
  const { k, chance, indices, complete } = overlap;
  $("spans").textContent = `The spans are those of the first ${k} eigenvectors; spans at random overlap by ${short(chance)}.`;
  if (indices.length < complete) {
    $("spans").textContent += ` The map has ${indices.length} of the ${complete} complete grid points, evenly spaced.`;
  }
}

/** Offer the other runs for comparison; return the ID of the default: the same seed in the other direction. */
function offerOtherRuns(id) {
  const chosen = facts.runs.find((run) => run.id === id);
  const others = facts.runs.filter((run) => run.id !== id && run.counts.complete);
  const other = others.find((run) => run.seed === chosen.seed) ?? null;
  $("compare").replaceChildren(
    element("option", { value: "" }, "none"),
    ...others.map((run) => element("option", { value: run.id }, runName(run))),
  );
  $("compare").value = other ? String(other.id) : "";
  explain($("compare"), others.length ? "" : "no other run has complete grid points");
  return other && other.id;
}

function showGaps() {
  const { counts } = facts.runs.find((run) => run.id === state.id);
  const gaps = STATES.filter((name) => name !== "complete" && counts[name]).map((name) => `${counts[name]} ${name}`);
  $("gaps").hidden = !gaps.length;
  const complete = `${counts.complete} of ${GRID.length}`;
  $("gaps").textContent = `${complete} grid points of this run are complete and drawn; not drawn: ${gaps.join(", ")}.`;
}

/** Draw one plot after the other, only the latest figure of each: a slider requests them faster than they are drawn. */
function draw(id, figure) {
  const place = $(id);
  latestFigures.set(id, figure);
  drawing = drawing.then(() => {
    if (latestFigures.get(id) !== figure) return null;
    place.setAttribute("role", typeof figure === "string" ? "group" : "img"); // screen readers skip text in an image
    if (typeof figure !== "string") {
      place.querySelector(":scope > .note")?.remove();
      return Plotly.react(place, figure.data, figure.layout, CONFIG);
    }
    Plotly.purge(place); // this also removes the listeners
    place.classList.remove("js-plotly-plot");
    delete place.dataset.listens;
    place.replaceChildren(element("p", { class: "note" }, figure));
    return null;
  });
  return drawing;
}

function drawSpectrum() {
  draw("spectrum", spectrumFigure(state.run, $("scale").value, state.index)).then(() => listenToClicks("spectrum"));
}

function drawClasses() {
  const split = Number($("split").value);
  const others = $("range").checked ? state.siblings : [];
  const look = { dashed: state.other, others, window: $("smooth").checked ? facts.window : 1 };
  draw("classes", classesFigure(state.run, look, $("quantity").value, split, state.index)).then(() =>
    listenToClicks("classes"),
  );
  fillLost($("lost"), state.run, state.other, split);
}

/** Choose the nearest grid point at a click anywhere in a plot. */
function listenToClicks(id) {
  const place = $(id);
  if (!place.on || place.dataset.listens) return;
  place.dataset.listens = "yes";
  place.on("plotly_click", (event) => {
    setIndex(nearestIndex(event.points.length ? event.points[0].x : event.xvals[0]));
  });
}

let nextFrame = 0;
let hashTimer = 0;

function setIndex(index) {
  if (index < 0 || index >= GRID.length) return;
  state.index = index;
  cancelAnimationFrame(nextFrame);
  nextFrame = requestAnimationFrame(showGridPoint);
}

/** Show everything that depends on the chosen grid point. */
function showGridPoint() {
  const { id, run, index } = state;
  const l2 = GRID[index];
  const status = STATES[run.status[index]];
  $("l2").value = String(index);
  $("l2").setAttribute("aria-valuetext", `${AXIS.symbol} = ${l2}, ${status}`);
  $("shown").textContent = `${AXIS.symbol} = ${l2}`;
  disableAtEnd($("previous"), index === 0 && "This is the first grid point.");
  disableAtEnd($("next"), index === GRID.length - 1 && "This is the last grid point.");
  $("at").textContent = `At ${AXIS.symbol} = ${l2}, ${runName(facts.runs.find((one) => one.id === id))}`;
  rows.forEach((row, at) =>
    at === index ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current"),
  );
  for (const plot of ["classes", "spectrum", "training", "curvature", "overlap"]) moveCursor(plot, index);
  clearTimeout(hashTimer); // a dragged slider would set more addresses than browsers allow
  hashTimer = setTimeout(() => history.replaceState(null, "", makeHash(id, index)), 150);
  $("state").hidden = status === "complete";
  $("details").hidden = status !== "complete";
  if (status === "complete") showDetails();
  else $("state").textContent = statusText(run, status, index);
}

function disableAtEnd(button, reason) {
  button.disabled = Boolean(reason);
  button.title = reason || "";
}

function statusText(run, status, index) {
  if (status === "failed") return `This grid point failed: ${run.failure?.[index] || "the reason is not recorded"}.`;
  return status === "fitted"
    ? "This grid point is fitted, but its analysis is not complete."
    : "This grid point is pending: nothing has been computed yet.";
}

function moveCursor(id, index) {
  const place = $(id);
  drawing = drawing.then(() =>
    index === state.index && place.layout?.shapes?.length ? Plotly.relayout(place, { shapes: cursor(index) }) : null,
  );
}

function showDetails() {
  showMap();
  showConfusion();
  fillClasses($("by-class"), state.run, state.index);
  draw("residuals", residualsFigure(state.run, state.index));
  fillPairs($("pairs"), state.run, state.index);
  fillRecord($("record"), state.run, state.index);
}

function showMap() {
  const kind = $("map").value;
  const hasSigns = kind === "response";
  $("map-split-label").hidden = hasSigns;
  $("map-sign-label").hidden = !hasSigns;
  const part = Number($(hasSigns ? "map-sign" : "map-split").value);
  draw("modes", mapFigure(state.run, kind, part, state.index));
  fillMap($("map-table"), state.run, kind, part, state.index);
}

function showConfusion() {
  const hasCounts = fillConfusion($("confusion"), state.run, Number($("confusion-split").value), state.index);
  $("no-confusion").hidden = hasCounts;
  $("no-confusion").textContent = hasCounts ? "" : "This grid point has no confusion counts.";
}

/** Plots follow the width of their places, whatever changes it. */
const resizing = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width && target.layout?.autosize !== false && target.classList.contains("js-plotly-plot")) {
      Plotly.Plots.resize(target);
    }
  }
});

/** Give all plots a width for paper; null restores the width of their places. */
function setPlotWidths(width) {
  for (const place of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(place, width === null ? { width: null, autosize: true } : { width, autosize: false });
  }
}

function addListeners() {
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  on("run", "change", () => chooseRun(Number($("run").value), state.index));
  on("l2", "input", () => setIndex(Number($("l2").value)));
  on("previous", "click", () => setIndex(state.index - 1));
  on("next", "click", () => setIndex(state.index + 1));
  for (const id of ["quantity", "split"]) on(id, "change", drawClasses);
  for (const id of ["smooth", "range"]) on(id, "change", drawAlong);
  for (const button of document.querySelectorAll("button[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download));
  }
  on("compare", "change", async () => {
    state.other = $("compare").value === "" ? null : await loadRun(Number($("compare").value));
    drawClasses();
  });
  on("scale", "change", drawSpectrum);
  for (const id of ["map", "map-split", "map-sign"]) on(id, "change", showMap);
  on("confusion-split", "change", showConfusion);
  addEventListener("hashchange", ({ newURL }) => {
    const { id, index } = parseHash(new URL(newURL).hash);
    chooseRun(id, index);
  });
  for (const place of document.querySelectorAll(".plot")) resizing.observe(place);
  addEventListener("beforeprint", () => setPlotWidths(660));
  addEventListener("afterprint", () => setPlotWidths(null));
}

function showError(error) {
  $("error").hidden = false;
  $("error").textContent =
    `This browser cannot show a part of the page (${error?.message ?? error}): open it in a browser of 2023 or newer.`;
}

async function start() {
  $("run").replaceChildren(...facts.runs.map((run) => element("option", { value: run.id }, runName(run))));
  $("l2").max = String(GRID.length - 1);
  $("report").hidden = false;
  addListeners();
  drawing = loadPlotly(); // tables need not wait for it
  const { id, index } = parseHash(location.hash);
  $("smooth").checked = facts.window > 1;
  $("range").checked = siblingsOf(id).length > 1;
  await chooseRun(id, index);
  await drawing;
  document.body.dataset.ready = "yes";
}

addEventListener("error", ({ error }) => showError(error));
addEventListener("unhandledrejection", ({ reason }) => showError(reason));
start();
