// Every action by a key. Letters do nothing while something is typed.

export const KEYS = [
  ["j or ↓, k or ↑", "next, previous picture"],
  ["n", "next picture to review"],
  ["a", "agree with the model"],
  ["d", "disagree: of two labels the other one"],
  ["1 … 9", "choose a label"],
  ["u, x", "unsure; the picture is unusable"],
  ["z", "undo the last decision"],
  ["m", "write a note (Esc leaves it); it is saved with the next decision"],
  ["r", "blind: show the model's answer; your decision is then final"],
  ["f, o, + and −", "fit; one pixel for one; zoom"],
  ["Shift and an arrow", "move the picture"],
  ["[ and ], , and .", "level down and up; window narrower and wider"],
  ["i, w", "invert; window as stored"],
  ["h", "heat map over the picture"],
  ["b", "another picture of the same study, patient or group beside it"],
  ["/", "search in paths"],
  ["?", "this help"],
];

const PLAIN = {
  j: "next", ArrowDown: "next", k: "previous", ArrowUp: "previous", n: "unreviewed",
  a: "agree", d: "disagree", u: "unsure", x: "unusable", z: "undo", m: "note", r: "show",
  f: "fit", o: "actual", "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", i: "invert", w: "reset",
  h: "overlay", b: "beside", "/": "search", "?": "help",
};
const STEPS = { "[": ["level", -1], "]": ["level", 1], ",": ["width", -1], ".": ["width", 1] };
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Do what keys ask, with the functions of `actions`. */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (document.getElementById("help").open) return;
    if (isTyped(event)) {
      if (event.key === "Escape") document.getElementById("list").focus();
      return;
    }
    if (act(event, actions)) event.preventDefault();
  });
}

/** Whether the key belongs to what has the focus: text, a choice, a slider. */
function isTyped({ target, key }) {
  if (!(target instanceof Element)) return false;
  if (target.matches("textarea, select")) return true;
  if (!target.matches("input")) return false;
  return target.type !== "range" || key.startsWith("Arrow");
}

function act(event, actions) {
  const { key } = event;
  if ((event.ctrlKey || event.metaKey) && key === "z") return actions.undo(), true;
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.shiftKey && ARROWS[key]) return actions.move(...ARROWS[key]), true;
  if (STEPS[key]) return actions[STEPS[key][0]](STEPS[key][1]), true;
  if (/^[1-9]$/.test(key)) return actions.label(Number(key) - 1), true;
  if (!PLAIN[key]) return false;
  actions[PLAIN[key]]();
  return true;
}
