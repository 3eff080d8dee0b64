// How the scores of the rows lie between 0 and 1, the threshold, and a range that is dragged over them.

import { showNumber } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [500, 80];

export class Histogram {
  constructor({ onSpan }) {
    this.svg = document.getElementById("histogram");
    this.title = document.getElementById("histogram-title");
    this.onSpan = onSpan;
    this.svg.addEventListener("pointerdown", (event) => this.drag(event));
  }

  draw(counts, { low, high, threshold, name }) {
    const most = Math.max(...counts, 1);
    const bars = counts.map((count, place) => {
      // Square roots: a bar of one must be seen beside a bar of ten thousand.
      const height = count ? Math.max(2, HEIGHT * Math.sqrt(count / most)) : 0;
      const inside = (place + 1) / counts.length > low && place / counts.length < high;
      const x = (place * WIDTH) / counts.length;
      return make("rect", {
        x, y: HEIGHT - height, width: WIDTH / counts.length - 1, height, class: inside ? "bar in" : "bar",
      });
    });
    const lines = threshold === null ? [] : [
      make("line", { x1: threshold * WIDTH, x2: threshold * WIDTH, y1: 0, y2: HEIGHT, class: "threshold" }),
    ];
    this.svg.replaceChildren(...bars, ...lines);
    const at = threshold === null ? "" : `, threshold ${showNumber(threshold)}`;
    this.title.textContent = `Probability of ${name}${at}: drag for a range`;
  }

  drag(event) {
    const find = (moved) => {
      const box = this.svg.getBoundingClientRect();
      return Math.min(1, Math.max(0, (moved.clientX - box.left) / box.width));
    };
    const start = find(event);
    this.svg.setPointerCapture(event.pointerId);
    this.svg.addEventListener("pointerup", (moved) => {
      const end = find(moved);
      const [low, high] = [Math.min(start, end), Math.max(start, end)].map((value) => Math.round(value * 100) / 100);
      if (high > low) this.onSpan(low, high);
    }, { once: true });
  }
}

export function make(kind, values) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
  return element;
}
