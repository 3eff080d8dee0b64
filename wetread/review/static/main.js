// The reading room: which row is shown, what the reader does, and what is asked of the server for it.

import { address, ask, fetchPicture, say } from "./api.js";
import { listenToFilters, readQuery, readSpan, showCounts, showTotal, writeSpan } from "./filters.js";
import { Histogram } from "./histogram.js";
import { KEYS, listenToKeys } from "./keys.js";
import { makeLabels, showHeat, showRow } from "./panel.js";
import { forgetPictures, getPicture, prepare } from "./pictures.js";
import { Viewer } from "./viewer.js";
import { Worklist } from "./worklist.js";

const find = (name) => document.getElementById(name);
const POLL = 2000;
const HEAT_DELAY = 350; // a reader who passes a picture by needs no map of it

const state = { session: null, counts: null, row: null, number: null, place: -1, looked: 0, since: 0, beside: -1, overlay: 60 };
const viewer = new Viewer(find("viewer"), { onWindow: (words) => { find("window").textContent = words; } });
const second = new Viewer(find("second"));
const worklist = new Worklist({ onChoose: (number, place) => guard(choose(number, place)) });
const histogram = new Histogram({ onSpan: setSpan });

/** Let what fails be said on the page. */
function guard(promise) {
  return promise.catch((error) => complain(error.message));
}

function complain(words) {
  find("problem").textContent = words;
  find("problem").hidden = !words;
}

// -- the worklist ---------------------------------------------------------------------------------

async function applyFilters() {
  const page = await worklist.ask(readQuery());
  if (!page) return;
  showTotal(worklist.total, state.counts);
  const stays = state.number !== null && page.rows.some((row) => row.number === state.number);
  const first = !stays && page.rows.length ? choose(page.rows[0].number, 0) : null;
  find("list").dataset.asked = Number(find("list").dataset.asked ?? 0) + 1;
  await Promise.all([drawHistogram(), first]);
}

async function drawHistogram() {
  if (state.session.blind) return;
  const counts = await ask(address("/api/histogram", readQuery()));
  const { threshold, positive } = state.session;
  histogram.draw(counts, { ...readSpan(), threshold, name: positive ?? "the chosen label" });
}

function setSpan(low, high) {
  writeSpan(low, high);
  guard(applyFilters());
}

/** Take over counts, all of them at one moment. */
function takeCounts(counts) {
  state.counts = counts;
  showCounts(counts, state.session);
  complain(counts.problem);
}

// -- one row --------------------------------------------------------------------------------------

async function choose(number, place) {
  state.number = number;
  state.place = place;
  state.beside = -1;
  worklist.choose(number, place);
  const [row, picture] = await Promise.all([ask(`/api/rows/${number}`), getPicture(number)]);
  if (state.number !== number) return;
  if (row.generation !== state.counts.generation) return refresh();
  state.row = row;
  state.looked = 0;
  state.since = performance.now();
  const name = showRow(row, state.session, place, worklist.total);
  find("note").value = row.review?.note ?? "";
  viewer.show(picture, name);
  find("viewer").dataset.number = number;
  showBeside();
  showHeat(null, viewer);
  prefetch(number);
  clearTimeout(state.heatTimer);
  state.heatTimer = setTimeout(() => guard(loadHeat(number)), HEAT_DELAY);
}

/** Fetch the pictures that are likely to come next. */
async function prefetch(number) {
  for (const review of [find("review").value, "unreviewed"]) {
    const next = await ask(address("/api/next", { ...readQuery(), review }, { number }));
    if (state.number !== number) return;
    if (next.number !== null) prepare(next.number, number);
  }
}

async function loadHeat(number) {
  if (!state.session.heat || state.row.hidden || state.row.status !== "ok" || !viewer.picture) return;
  find("heat-words").textContent = "Looking where the model looked …";
  const heat = await ask(`/api/rows/${number}/heat`);
  if (state.number !== number) return;
  viewer.showHeat(heat.problem ? null : heat);
  showHeat(heat, viewer);
}

function showBeside() {
  const others = state.row.beside;
  find("beside").hidden = !others.length;
  find("beside").setAttribute("aria-pressed", String(state.beside >= 0));
  find("second").hidden = state.beside < 0;
  if (state.beside < 0) second.show(null, "No second picture");
}

/** Show the next picture of the same study, patient or group beside this one; after the last, none. */
async function turnBeside() {
  const { beside: others } = state.row;
  if (!others.length) return;
  state.beside = state.beside + 1 < others.length ? state.beside + 1 : -1;
  showBeside();
  if (state.beside < 0) return;
  const [number, place] = [others[state.beside], state.beside];
  const [row, picture] = await Promise.all([ask(`/api/rows/${number}`), fetchPicture(number)]);
  if (state.beside !== place) return;
  const name = row.hidden ? "another picture" : row.path.split(/[\\/]/).pop();
  second.show(picture, name);
  const told = row.hidden || row.status !== "ok" ? "" : `: ${row.label} ${row.probability.toFixed(4)}`;
  find("second").querySelector(".caption").textContent = `Same study, patient or group, ${place + 1} of ${others.length}: ${name}${told}`;
}

// -- going on -------------------------------------------------------------------------------------

async function go(step, review = find("review").value) {
  const query = { ...readQuery(), review };
  const next = await ask(address("/api/next", query, { number: state.number, step }));
  if (next.number === null) return announce(step > 0 ? "The end of the list" : "The beginning of the list");
  const place = review === find("review").value ? next.place : await findPlace(next.number);
  return choose(next.number, place);
}

/** Where a row stands in the list as it is filtered now. */
async function findPlace(number) {
  const found = await ask(address("/api/next", { ...readQuery() }, { number, step: -1 }));
  return found.number === null ? 0 : found.place + 1;
}

function announce(words) {
  find("said").textContent = words;
}

// -- what the reader says -------------------------------------------------------------------------

function countSeconds() {
  const now = document.hidden || !state.since ? 0 : performance.now() - state.since;
  return Math.round(state.looked + now) / 1000;
}

async function decide({ label = "", verdict = "" }) {
  const { number, row } = state;
  if (!row || row.number !== number || state.saying) return;
  const said = {
    identity: crypto.randomUUID(), number, generation: row.generation, label, verdict,
    note: find("note").value, seconds: countSeconds(),
  };
  state.saying = true;
  try {
    const answer = await sayUntilHeard(said);
    if (answer.problem) return announce(answer.problem);
    await takeAnswer(answer, number);
    await go(1, "unreviewed");
  } finally {
    state.saying = false;
  }
}

/** Say it again, under the same identity, until the server has answered. */
async function sayUntilHeard(said) {
  for (;;) {
    try {
      return await say("/api/decisions", said);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the server refused
      complain("Not saved: the server does not answer. Trying again …");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

async function takeAnswer(answer, number) {
  takeCounts(answer.counts);
  if (state.number === number) {
    state.row = { ...state.row, ...answer.row };
    showRow(state.row, state.session, state.place, worklist.total);
  }
  await worklist.refresh();
  showTotal(worklist.total, state.counts);
}

async function undo() {
  const answer = await say("/api/undo", { identity: crypto.randomUUID() });
  if (answer.problem || answer.number === null) return announce(answer.problem ?? "Nothing to undo");
  takeCounts(answer.counts);
  await worklist.refresh();
  showTotal(worklist.total, state.counts);
  await choose(answer.number, await findPlace(answer.number));
}

function agree() {
  if (state.row?.hidden || !state.row?.label) return announce("There is no answer to agree with: choose a label");
  return guard(decide({ label: state.row.label }));
}

/** With two labels the other one; with more, the reader has to say which. */
function disagree() {
  const others = state.session.labels.filter((label) => label !== state.row?.label);
  if (state.row?.hidden || !state.row?.label || others.length !== 1) {
    find("labels").firstElementChild?.focus();
    return announce("Choose a label: 1 to 9");
  }
  return guard(decide({ label: others[0] }));
}

async function showAnswer() {
  if (find("show").hidden) return;
  const row = await say(`/api/rows/${state.number}/answer`, {});
  if (row.problem) return announce(row.problem);
  state.row = row;
  showRow(row, state.session, state.place, worklist.total);
  await Promise.all([worklist.refresh(), loadHeat(row.number)]);
}

// -- keeping true ---------------------------------------------------------------------------------

/** Take over what has changed: rows that came, or another file. */
async function refresh() {
  const counts = await ask("/api/counts");
  const before = state.counts;
  takeCounts(counts);
  if (counts.generation !== before.generation) {
    forgetPictures();
    state.number = null;
    return applyFilters();
  }
  if (counts.version === before.version && counts.reviewed === before.reviewed) return;
  await worklist.refresh();
  showTotal(worklist.total, state.counts);
  await drawHistogram();
  if (state.number === null && worklist.total) await applyFilters();
}

async function poll() {
  try {
    await refresh();
  } catch (error) {
    complain(error instanceof TypeError ? "The server does not answer: start `wetread review` again, and open the address that it prints." : error.message);
  }
  setTimeout(poll, POLL);
}

// -- the beginning --------------------------------------------------------------------------------

function setOverlay(value) {
  find("overlay").value = value;
  viewer.setOverlay(value / 100);
}

function toggleOverlay() {
  const now = Number(find("overlay").value);
  if (now) state.overlay = now;
  setOverlay(now ? 0 : state.overlay);
}

function toggleInvert() {
  const inverted = !viewer.inverted;
  find("invert").setAttribute("aria-pressed", String(inverted));
  viewer.setInverted(inverted);
  second.setInverted(inverted);
}

const actions = {
  next: () => guard(go(1)),
  previous: () => guard(go(-1)),
  unreviewed: () => guard(go(1, "unreviewed")),
  agree,
  disagree,
  label: (place) => { if (state.session.labels[place]) guard(decide({ label: state.session.labels[place] })); },
  unsure: () => guard(decide({ verdict: "unsure" })),
  unusable: () => guard(decide({ verdict: "unusable" })),
  undo: () => guard(undo()),
  show: () => guard(showAnswer()),
  note: () => find("note").focus(),
  search: () => find("text").focus(),
  fit: () => { viewer.fit(); second.fit(); },
  actual: () => viewer.showActual(),
  zoomIn: () => viewer.zoom(1.25),
  zoomOut: () => viewer.zoom(0.8),
  move: (x, y) => viewer.move(x * 60, y * 60),
  invert: toggleInvert,
  reset: () => { viewer.setWindow(null); second.setWindow(null); },
  level: (step) => viewer.changeWindow(step * 0.05, 0),
  width: (step) => viewer.changeWindow(0, step * 0.1),
  overlay: toggleOverlay,
  beside: () => guard(turnBeside()),
  help: () => find("help").showModal(),
};

function listen() {
  for (const name of ["next", "previous", "unreviewed", "unsure", "unusable", "undo", "show", "fit", "actual", "invert", "reset", "beside"]) {
    find(name).addEventListener("click", () => actions[name]());
  }
  find("open-help").addEventListener("click", actions.help);
  find("overlay").addEventListener("input", () => setOverlay(Number(find("overlay").value)));
  find("clear-span").addEventListener("click", () => setSpan());
  listenToFilters(() => guard(applyFilters()));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) state.looked += performance.now() - state.since;
    else state.since = performance.now();
  });
  listenToKeys(actions);
}

function describeSession(session) {
  find("file").textContent = session.scores;
  find("who").textContent = `Reader ${session.reader}${session.blind ? ", blind" : ""} → ${session.output}`;
  for (const name of ["histogram-part", "sort-part", "label-part", "status-part", "text-part", "heat", "overlay-part"]) {
    find(name).hidden = session.blind && !["heat", "overlay-part"].includes(name);
  }
  if (!session.heat) {
    find("overlay-part").hidden = true;
    find("heat-words").textContent = "No heat maps: name the model that made these scores with --model.";
  }
  find("scope-part").hidden = !session.scope;
  worklist.positive = session.positive;
  makeLabels(session.labels, (label) => guard(decide({ label })));
  find("keys").replaceChildren(...KEYS.map(([key, words]) => {
    const row = document.createElement("tr");
    row.append(...[key, words].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
}

async function start() {
  [state.session, state.counts] = await Promise.all([ask("/api/session"), ask("/api/counts")]);
  describeSession(state.session);
  takeCounts(state.counts);
  listen();
  await applyFilters();
  find("list").focus();
  document.documentElement.dataset.ready = "yes";
  setTimeout(poll, POLL);
}

guard(start());
