// What the page carries: facts of the whole store, and of each run a packed block that is opened when it is chosen.

const facts = JSON.parse(document.getElementById("facts").textContent);
const STATES = ["pending", "fitted", "complete", "failed"];
const TRAIN = 0,
  TEST = 1;
const MARGIN = 0.1; // the skill above which a class is known
const opened = new Map();

async function unpacked(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function runOf(id) {
  if (!opened.has(id)) opened.set(id, unpacked(`run-${id}`).then(JSON.parse));
  return opened.get(id);
}

/** The library comes as text; the page's policy lets this very text run. */
async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpacked("library");
  document.head.append(script);
  if (!window.Plotly) throw new Error("the browser did not run the plots' library");
}

function named(run) {
  return `run ${run.id} (seed ${run.seed}, ${run.direction})`;
}

/** A number as people read it; a dash for one that is not there. */
function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  return String(Number(value.toPrecision(digits))).replaceAll("-", "−");
}

function measured(value, unit) {
  return value === null || value === undefined ? "–" : `${short(value)} ${unit}`;
}

function fixed(value, decimals = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(decimals).replace("-", "−");
}

/** What of `run` is called `name` at one λ, or null. */
function entry(run, name, index) {
  return run[name] ? run[name][index] : null;
}

function count(values, test) {
  return values.filter(test).length;
}

/** The class of the lowest test accuracy, as {label, accuracy}; null if there is none. */
function worst(run, index) {
  const all = entry(run, "class_accuracy", index)?.[TEST] ?? [];
  const there = all.flatMap((accuracy, label) => (accuracy === null ? [] : [{ label: facts.labels[label], accuracy }]));
  return there.length ? there.reduce((low, one) => (one.accuracy < low.accuracy ? one : low)) : null;
}

function known(run, index) {
  const skills = (entry(run, "class_skill", index)?.[TEST] ?? []).filter((skill) => skill !== null);
  return skills.length ? count(skills, (skill) => skill > MARGIN) : null;
}

/** How many pairs have converged, or null if there are none. */
function converged(run, index) {
  const flags = (entry(run, "converged", index) ?? []).filter((flag) => flag !== null);
  return flags.length ? count(flags, (flag) => flag === 1) : null;
}
