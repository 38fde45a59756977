// The data of the page: facts about the whole store, and one packed block per run, which is unpacked when it is chosen.

const facts = JSON.parse(document.getElementById("facts").textContent);
const GRID = facts.grid; // the values of the grid, λ in a sweep, in ascending order
const AXIS = facts.axis; // the name, symbol and label of the grid's values
const UNIT = facts.unit; // of losses and eigenvalues: nat, or empty for pure numbers
const STATES = ["pending", "fitted", "complete", "failed"];
const TRAIN = 0,
  TEST = 1;
const MARGIN = facts.margin; // the skill above which a class is known
const loadedRuns = new Map();

async function unpack(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function loadRun(id) {
  if (!loadedRuns.has(id)) loadedRuns.set(id, unpack(`run-${id}`).then(JSON.parse));
  return loadedRuns.get(id);
}

/** Run the plotting library, which the page contains as text; the page's policy allows exactly this text. */
async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("library");
  document.head.append(script);
  if (!window.Plotly) throw new Error("the browser did not run the plotting library");
}

function runName(run) {
  return `run ${run.id} (${run.store ? `${run.store}, ` : ""}seed ${run.seed}, ${run.direction})`;
}

/** The index of the grid point whose λ is nearest to `l2`. */
function nearestIndex(l2) {
  const distances = GRID.map((one) => Math.abs(one - l2));
  return distances.indexOf(Math.min(...distances));
}

function isMissing(value) {
  return value === null || value === undefined;
}

/** A number with a few significant digits, or a dash if it is missing. */
function short(value, digits = 4) {
  return isMissing(value) ? "–" : String(Number(value.toPrecision(digits))).replaceAll("-", "−");
}

function withUnit(value, unit) {
  return isMissing(value) ? "–" : `${short(value)} ${unit}`.trim();
}

function inUnit(name) {
  return UNIT ? `${name} (${UNIT})` : name;
}

function fixed(value, decimals = 3) {
  return isMissing(value) ? "–" : value.toFixed(decimals).replace("-", "−");
}

/** The value of the variable `name` of a run at one grid point, or null. */
function valueAt(run, name, index) {
  return run[name] ? run[name][index] : null;
}

function isComplete(run, index) {
  return STATES[run.status[index]] === "complete";
}

function count(values, test) {
  return values.filter(test).length;
}

/** The class with the lowest test accuracy, as {label, accuracy}; null if no accuracy is known. */
function worstClass(run, index) {
  const accuracies = valueAt(run, "class_accuracy", index)?.[TEST] ?? [];
  const known = accuracies.flatMap((accuracy, label) =>
    accuracy === null ? [] : [{ label: facts.labels[label], accuracy }],
  );
  return known.length ? known.reduce((low, one) => (one.accuracy < low.accuracy ? one : low)) : null;
}

/** The number of classes that are known, or null if no skill is recorded. */
function countKnownClasses(run, index) {
  const skills = (valueAt(run, "class_skill", index)?.[TEST] ?? []).filter((skill) => skill !== null);
  return skills.length ? count(skills, (skill) => skill > MARGIN) : null;
}

/** The number of converged pairs, or null if it is not recorded. */
function countConverged(run, index) {
  const flags = (valueAt(run, "converged", index) ?? []).filter((flag) => flag !== null);
  return flags.length ? count(flags, (flag) => flag === 1) : null;
}
