// The page's state, a run and a λ of it, and what is drawn of them.

const $ = (id) => document.getElementById(id);
const state = { id: null, run: null, beside: null, index: 0, turn: 0 };
let rows = [];
let drawing; // a promise of all that is drawn so far
const wanted = new Map(); // the last figure of each plot

function hashOf(id, index) {
  return `#run=${id}&l2=${facts.l2[index]}`;
}

/** What the end of an address asks for: {id, index}; index is null if no λ is named. */
function asked(hash) {
  const words = new URLSearchParams(hash.slice(1));
  const run = facts.runs.find((one) => String(one.id) === words.get("run"));
  const l2 = words.has("l2") ? Number(words.get("l2")) : NaN;
  const distances = facts.l2.map((one) => Math.abs(one - l2));
  const index = Number.isFinite(l2) ? distances.indexOf(Math.min(...distances)) : null;
  const first = facts.runs.find((one) => one.counts.complete) ?? facts.runs[0];
  return { id: (run ?? first).id, index };
}

async function chooseRun(id, index) {
  const turn = ++state.turn;
  const run = await runOf(id);
  const fresh = state.id !== id;
  const other = fresh ? offerBeside(id) : null;
  const beside = fresh ? await (other === null ? null : runOf(other)) : state.beside;
  if (turn !== state.turn) return; // another choice came while these were opened
  Object.assign(state, { id, run, beside, index: index ?? (fresh ? run.start : state.index) });
  if (fresh) {
    $("run").value = String(id);
    rows = fillAll($("table"), id, run);
    sayGaps();
    drawClasses();
    drawSpectrum();
  }
  showL2();
}

/** Other runs, to be drawn dashed; returns the ID of the first choice: the same seed's other way along λ. */
function offerBeside(id) {
  const chosen = facts.runs.find((run) => run.id === id);
  const others = facts.runs.filter((run) => run.id !== id && run.counts.complete);
  const other = others.find((run) => run.seed === chosen.seed) ?? null;
  $("beside").replaceChildren(
    element("option", { value: "" }, "none"),
    ...others.map((run) => element("option", { value: run.id }, named(run))),
  );
  $("beside").value = other ? String(other.id) : "";
  $("beside").disabled = !others.length;
  return other && other.id;
}

function sayGaps() {
  const { counts } = facts.runs.find((run) => run.id === state.id);
  const gaps = STATES.filter((name) => name !== "complete" && counts[name]).map((name) => `${counts[name]} ${name}`);
  $("gaps").hidden = !gaps.length;
  $("gaps").textContent =
    `${counts.complete} of ${facts.l2.length} λ of this run are complete and drawn; not drawn: ${gaps.join(", ")}.`;
}

/** Draw one plot after the other, of each the last that was asked for: a slider asks faster than plots are drawn. */
function draw(id, figure) {
  const place = $(id);
  wanted.set(id, figure);
  drawing = drawing.then(() => {
    if (wanted.get(id) !== figure) return null;
    place.setAttribute("role", typeof figure === "string" ? "group" : "img"); // what is in an image is not read out
    if (typeof figure !== "string") {
      place.querySelector(":scope > .note")?.remove();
      return Plotly.react(place, figure.data, figure.layout, CONFIG);
    }
    Plotly.purge(place); // and with it the listeners
    place.classList.remove("js-plotly-plot");
    delete place.dataset.listens;
    place.replaceChildren(element("p", { class: "note" }, figure));
    return null;
  });
  return drawing;
}

function drawSpectrum() {
  draw("spectrum", spectrumFigure(state.run, $("scale").value, state.index)).then(() => listen("spectrum"));
}

function drawClasses() {
  const split = Number($("split").value);
  draw("classes", classesFigure(state.run, state.beside, $("quantity").value, split, state.index)).then(() =>
    listen("classes"),
  );
  const last = state.run.last_known?.[split] ?? [];
  const told = facts.labels.map((label, at) => `${label}: ${last[at] === null ? "at none" : last[at]}`);
  $("lost").textContent = last.some((l2) => l2 !== null)
    ? `Last λ at which the class's ${facts.splits[split]} skill is above ${MARGIN}: ${told.join("; ")}.`
    : "";
}

/** A click anywhere in a plot chooses the nearest λ. */
function listen(id) {
  const place = $(id);
  if (!place.on || place.dataset.listens) return;
  place.dataset.listens = "yes";
  place.on("plotly_click", (event) => {
    const x = event.points.length ? event.points[0].x : event.xvals[0];
    const distances = facts.l2.map((l2) => Math.abs(l2 - x));
    setIndex(distances.indexOf(Math.min(...distances)));
  });
}

let asking = 0;
let naming = 0;

function setIndex(index) {
  if (index < 0 || index >= facts.l2.length) return;
  state.index = index;
  cancelAnimationFrame(asking);
  asking = requestAnimationFrame(showL2);
}

/** All that depends on λ. */
function showL2() {
  const { id, run, index } = state;
  const l2 = facts.l2[index];
  const status = STATES[run.status[index]];
  $("l2").value = String(index);
  $("l2").setAttribute("aria-valuetext", `λ = ${l2}, ${status}`);
  $("shown").textContent = `λ = ${l2}`;
  $("previous").disabled = index === 0;
  $("next").disabled = index === facts.l2.length - 1;
  $("at").textContent = `At λ = ${l2}, ${named(facts.runs.find((one) => one.id === id))}`;
  rows.forEach((row, at) =>
    at === index ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current"),
  );
  for (const plot of ["classes", "spectrum"]) move(plot, index);
  clearTimeout(naming); // a dragged slider would ask for more addresses than browsers allow
  naming = setTimeout(() => history.replaceState(null, "", hashOf(id, index)), 150);
  $("state").hidden = status === "complete";
  $("details").hidden = status !== "complete";
  if (status === "complete") showDetails();
  else $("state").textContent = `This λ is ${status}: ${reason(run, status, index)}.`;
}

function reason(run, status, index) {
  if (status === "failed") return run.failure?.[index] || "why is not recorded";
  return status === "fitted" ? "its spectrum is not there yet" : "nothing is recorded yet";
}

function move(id, index) {
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
  const ofSigns = kind === "response";
  $("map-split-label").hidden = ofSigns;
  $("map-sign-label").hidden = !ofSigns;
  const part = Number($(ofSigns ? "map-sign" : "map-split").value);
  draw("modes", mapFigure(state.run, kind, part, state.index));
  fillMap($("map-table"), state.run, kind, part, state.index);
}

function showConfusion() {
  const there = fillConfusion($("confusion"), state.run, Number($("confusion-split").value), state.index);
  $("no-confusion").hidden = there;
  $("no-confusion").textContent = there ? "" : "The store has no confusion counts there.";
}

/** Plots are as wide as their places, whatever changes these. */
const resizing = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width && target.layout?.autosize !== false && target.classList.contains("js-plotly-plot")) {
      Plotly.Plots.resize(target);
    }
  }
});

/** Paper has its own width. */
function fit(width) {
  for (const place of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(place, width === null ? { width: null, autosize: true } : { width, autosize: false });
  }
}

function attend() {
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  on("run", "change", () => chooseRun(Number($("run").value), state.index));
  on("l2", "input", () => setIndex(Number($("l2").value)));
  on("previous", "click", () => setIndex(state.index - 1));
  on("next", "click", () => setIndex(state.index + 1));
  for (const id of ["quantity", "split"]) on(id, "change", drawClasses);
  on("beside", "change", async () => {
    state.beside = $("beside").value === "" ? null : await runOf(Number($("beside").value));
    drawClasses();
  });
  on("scale", "change", drawSpectrum);
  for (const id of ["map", "map-split", "map-sign"]) on(id, "change", showMap);
  on("confusion-split", "change", showConfusion);
  addEventListener("hashchange", ({ newURL }) => {
    const { id, index } = asked(new URL(newURL).hash);
    chooseRun(id, index);
  });
  for (const place of document.querySelectorAll(".plot")) resizing.observe(place);
  addEventListener("beforeprint", () => fit(660));
  addEventListener("afterprint", () => fit(null));
}

function trouble(error) {
  $("trouble").hidden = false;
  $("trouble").textContent =
    `Something of this page can't be shown here (${error?.message ?? error}). It needs a browser of 2023 or newer.`;
}

async function start() {
  $("run").replaceChildren(...facts.runs.map((run) => element("option", { value: run.id }, named(run))));
  $("l2").max = String(facts.l2.length - 1);
  $("report").hidden = false;
  attend();
  drawing = loadPlotly(); // tables need not wait for it
  const { id, index } = asked(location.hash);
  if (!(await runOf(id)).class_skill) $("quantity").value = "class_accuracy"; // an import may lack counts
  await chooseRun(id, index);
  await drawing;
  document.body.dataset.ready = "yes";
}

addEventListener("error", ({ error }) => trouble(error));
addEventListener("unhandledrejection", ({ reason }) => trouble(reason));
start();
