// What the worklist is asked for: order, filters, a range of the probability; and the counts beside them.

const find = (name) => document.getElementById(name);
// "12,345", without the tables of languages, which take a while to load.
const show = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

/** The query that the page's choices make. */
export function readQuery() {
  const [sort, down] = find("sort").value.split("-");
  const names = ["review", "label", "status", "scope", "text"];
  const words = Object.fromEntries(names.map((name) => [name, find(name).value]));
  return { sort, down: down ? 1 : "", ...words, low: find("low").value, high: find("high").value };
}

/** The range that is chosen, 0 to 1. */
export function readSpan() {
  return { low: Number(find("low").value || 0), high: Number(find("high").value || 1) };
}

export function writeSpan(low = "", high = "") {
  find("low").value = low;
  find("high").value = high;
}

export function showTotal(total, counts) {
  const all = total === counts.rows ? "" : ` of ${show(counts.rows)}`;
  find("total").textContent = `${show(total)}${all} pictures${counts.growing ? ", more may come" : ""}`;
}

/** Show how far the review is, and how many rows each choice has. */
export function showCounts(counts, { blind }) {
  const { rows, reviewed, verdicts } = counts;
  const said = Object.entries(verdicts).filter(([, count]) => count).map(([word, count]) => `${show(count)} ${word}`);
  const words = said.length ? `: ${said.join(", ")}` : "";
  find("progress").textContent = `${show(reviewed)} of ${show(rows)} reviewed${words}`;
  for (const [name, found] of [["label", counts.labels], ["status", counts.statuses], ["scope", counts.scopes]]) {
    fillChoice(name, list(found));
  }
  const kinds = list(verdicts).filter(([word]) => word !== "labelled" || !blind);
  const left = `to review (${show(rows - reviewed)})`;
  fillChoice("review", [["unreviewed", left], ["reviewed", `reviewed (${show(reviewed)})`], ...kinds]);
}

const list = (counts) => Object.entries(counts).map(([word, count]) => [word, `${word} (${show(count)})`]);

/** Fill a list of choices; what is chosen stays so. */
function fillChoice(name, words) {
  const place = find(name);
  const chosen = place.value;
  const options = [["", "any"], ...words].map(([value, textContent]) =>
    Object.assign(document.createElement("option"), { value, textContent }));
  place.replaceChildren(...options);
  place.value = words.some(([value]) => value === chosen) ? chosen : "";
}

/** Call `onChange` when a choice is made; while a path is typed, after a moment. */
export function listenToFilters(onChange) {
  for (const name of ["sort", "review", "label", "status", "scope", "low", "high"]) {
    find(name).addEventListener("change", onChange);
  }
  let typing = 0;
  find("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(onChange, 150);
  });
}
