// Beside the picture: the model's answer in words and numbers, where it looked, and what the reader said.

import { drawBeside } from "./heat.js";
import { make } from "./histogram.js";
import { showApart } from "./numbers.js";

const find = (name) => document.getElementById(name);

/** Show a row's name, answer and reading. */
export function showRow(row, session, place, total) {
  const name = row.hidden ? `Picture ${place + 1} of ${total}` : row.path.split(/[\\/]/).pop();
  find("name").textContent = name;
  find("folder").textContent = row.hidden ? "" : row.path.slice(0, row.path.length - name.length);
  find("failed").hidden = row.hidden || row.status === "ok";
  find("failed").textContent = row.hidden ? "" : `${row.status}: ${row.error}`;
  showAnswer(row, session);
  showReading(row, session);
  return name;
}

function showAnswer(row, session) {
  const chosen = find("chosen");
  find("gauge").replaceChildren();
  find("decision").textContent = "";
  find("more").replaceChildren();
  find("model").textContent = "";
  if (row.hidden) {
    chosen.textContent = row.review ? "Hidden until you ask" : "Hidden until you have decided";
    return;
  }
  const { name, digest } = session.model;
  find("model").textContent = digest ? `Model ${name || "unknown"}, ${digest.slice(0, 12)}` : "Model unknown: no record beside the scores";
  if (row.status !== "ok") {
    chosen.textContent = "No answer";
    return;
  }
  chosen.textContent = `${row.label} ${row.probability.toFixed(4)}`;
  if (session.positive) showGauge(row, session);
  fillMore(row, session);
}

function showGauge(row, session) {
  const at = 100 * session.threshold;
  find("gauge").replaceChildren(
    make("rect", { x: 0, y: 0, height: 8, width: 100 * row.score }),
    make("line", { x1: at, x2: at, y1: 0, y2: 8 }),
  );
  const score = row.probabilities[session.positive] ?? row.score; // the list's is rounded
  const side = score >= session.threshold ? "at or above" : "below";
  const [shown, threshold] = showApart(score, session.threshold);
  find("decision").textContent = `${session.positive} ${shown}, ${side} the threshold ${threshold}`;
}

function fillMore(row, session) {
  const shown = session.labels.length > 2 ? Object.entries(row.probabilities).map(([label, p]) => [label, p?.toFixed(4) ?? ""]) : [];
  for (const [name, value] of [...shown, ...Object.entries(row.more)]) {
    if (value === "") continue;
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [name.replaceAll("_", " "), value];
    find("more").append(term, text);
  }
}

function showReading(row, session) {
  const said = row.review;
  find("said").textContent = said ? describe(said) : "Not reviewed yet";
  find("said").className = said?.verdict ?? "";
  for (const button of find("labels").children) {
    button.setAttribute("aria-pressed", String(said?.label === button.dataset.label));
    button.querySelector(".own").textContent = !row.hidden && row.label === button.dataset.label ? "Agree: " : "";
  }
  find("unsure").setAttribute("aria-pressed", String(said?.verdict === "unsure"));
  find("unusable").setAttribute("aria-pressed", String(said?.verdict === "unusable"));
  find("show").hidden = !(session.blind && row.hidden && said);
  if (document.activeElement !== find("note")) find("note").value = said?.note ?? "";
}

function describe(said) {
  const words = { agree: "You agree", disagree: "You disagree", labelled: "You said", unsure: "You are unsure", unusable: "Unusable" };
  return `${words[said.verdict]}${said.label ? `: ${said.label}` : ""} (saved)`;
}

/** Make a button for each label, with its key. */
export function makeLabels(labels, onLabel) {
  find("labels").replaceChildren(...labels.map((label, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.label = label;
    const own = document.createElement("span");
    own.className = "own";
    button.append(own, `${label} `);
    if (place < 9) button.append(Object.assign(document.createElement("kbd"), { textContent: place + 1 }));
    button.addEventListener("click", () => onLabel(label));
    return button;
  }));
}

/** Show where the model looked, beside the picture; or why nobody can tell. */
export function showHeat(told, viewer) {
  const words = find("heat-words");
  find("heat-map").hidden = !told || Boolean(told.problem) || !viewer.picture;
  words.className = told?.warning ? "warning" : "";
  words.textContent = told ? told.problem ?? `${told.words} ${told.warning}` : "";
  find("heat-scale").textContent = "";
  if (!told || told.problem || !viewer.picture) return;
  drawBeside(find("heat-map"), viewer.buffer, viewer.heat);
  find("heat-map").setAttribute("aria-label", `Heat map: ${told.words}`);
  find("heat-scale").textContent =
    `Red speaks for ${told.label}, blue against it; full color at ${told.scale} log-odds, in every picture.`;
}
