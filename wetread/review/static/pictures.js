// Pictures that were fetched, and those that are likely to be asked for next.

import { fetchPicture } from "./api.js";
import { getHalf } from "./halves.js";

const KEPT = 5;
const kept = new Map();

/** A picture, or the promise of one; the oldest go. One that failed is asked for again. */
export function getPicture(number) {
  const known = kept.get(number) ?? fetchPicture(number);
  kept.delete(number);
  kept.set(number, known);
  known.then((picture) => { if (picture.problem) kept.delete(number); }, () => kept.delete(number));
  for (const old of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(old);
  }
  return known;
}

/** Make the small copies while nothing else is to be done. */
function prepareHalves(picture) {
  if (!picture.problem) (globalThis.requestIdleCallback ?? setTimeout)(() => getHalf(picture, 3));
}

/** Fetch a picture beforehand; the one in view stays the newest. */
export function prepare(number, shown) {
  if (kept.has(number)) return;
  getPicture(number).then(prepareHalves, () => {});
  if (kept.has(shown)) getPicture(shown);
}

export function forgetPictures() {
  kept.clear();
}
