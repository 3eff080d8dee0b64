// A picture on a canvas: fitted, zoomed, moved; its stored values windowed; a heat map laid over it.

import { findHalf } from "./halves.js";
import { paintHeat } from "./heat.js";

const MOST_DRAGGED = 1 << 20; // pixels that are windowed anew at each step of a drag
const MOST_ZOOM = 40;

/** Gray levels for each sample value: the table's own, or a straight line from low to high. */
export function makeLevels(table, window, inverted) {
  const levels = new Uint8Array(table.length);
  const width = window ? Math.max(window.high - window.low, 1e-6) : 0;
  for (let value = 0; value < table.length; value++) {
    let level = table[value];
    if (window) {
      level = Math.round((255 * Math.min(Math.max(value - window.low, 0), width)) / width);
      if (window.falls) level = 255 - level;
    }
    levels[value] = inverted ? 255 - level : level;
  }
  return levels;
}

/** Draw samples through levels into the pixels of an ImageData of their size. */
export function paintSamples({ samples, channels }, levels, image) {
  const out = new Uint32Array(image.data.buffer);
  if (channels === 1) {
    const gray = new Uint32Array(levels.length);
    for (let value = 0; value < levels.length; value++) gray[value] = 0xff000000 | (levels[value] * 0x010101);
    for (let at = 0; at < out.length; at++) out[at] = gray[samples[at]];
    return;
  }
  for (let at = 0, from = 0; at < out.length; at++, from += 3) {
    const [red, green, blue] = [levels[samples[from]], levels[samples[from + 1]], levels[samples[from + 2]]];
    out[at] = 0xff000000 | (blue << 16) | (green << 8) | red;
  }
}

export class Viewer {
  constructor(place, { onWindow = () => {} } = {}) {
    this.canvas = place.querySelector("canvas");
    this.broken = place.querySelector(".broken");
    this.onWindow = onWindow;
    this.picture = null;
    this.window = null;
    this.inverted = false;
    this.heat = null;
    this.overlay = 0;
    this.buffer = document.createElement("canvas");
    this.isRough = false;
    this.waiting = 0;
    new ResizeObserver(() => this.resize()).observe(place);
    this.listen();
  }

  /** Show a picture, fitted, as stored; or say why there is none. */
  show(picture, title) {
    this.picture = picture && !picture.problem ? picture : null;
    this.broken.hidden = !picture?.problem;
    this.broken.textContent = picture?.problem ?? "";
    this.heat = null;
    this.window = null;
    this.canvas.setAttribute("aria-label", picture?.problem ? `${title}: no picture` : title);
    this.shown = null;
    this.fit();
  }

  showHeat(heat) {
    this.heat = heat ? paintHeat(heat) : null;
    this.draw();
  }

  setOverlay(share) {
    this.overlay = share;
    this.draw();
  }

  // -- window and level ---------------------------------------------------------------------------

  setWindow(window) {
    this.window = window;
    if (this.picture) this.render();
    this.draw();
  }

  setInverted(inverted) {
    this.inverted = inverted;
    if (this.picture) this.render();
    this.draw();
  }

  /** Move the window by parts of its width: `level` up, `width` wider. */
  changeWindow(level, width, { rough = false } = {}) {
    if (!this.picture) return;
    const now = this.window ?? this.picture;
    const half = Math.max(((now.high - now.low) / 2) * (1 + width), 0.5);
    const middle = (now.low + now.high) / 2 + level * (now.high - now.low);
    this.window = { falls: this.picture.falls, low: middle - half, high: middle + half };
    this.isRough = rough;
    this.schedule(true);
  }

  describeWindow() {
    if (!this.picture) return "";
    const { slope, offset, shrunk } = this.picture;
    const { low, high } = this.window ?? this.picture;
    const level = ((low + high) / 2) * slope + offset;
    const words = `level ${round(level)}, width ${round((high - low) * Math.abs(slope))}`;
    return `${words}, zoom ${Math.round(this.scale * 100)}%${shrunk > 1 ? `, 1/${shrunk} of its size` : ""}`;
  }

  /** Window the samples at about the size at which they are shown; a drag over many takes half of that. */
  render() {
    const fine = findHalf(this.picture, this.scale);
    const isLarge = fine.width * fine.height > MOST_DRAGGED;
    const source = this.isRough && isLarge ? findHalf(this.picture, this.scale / 2) : fine;
    const levels = makeLevels(this.picture.table, this.window, this.inverted);
    const { width, height } = source;
    if (this.buffer.width !== width || this.buffer.height !== height) {
      [this.buffer.width, this.buffer.height] = [width, height];
    }
    const context = this.buffer.getContext("2d");
    const image = context.createImageData(width, height);
    paintSamples(source, levels, image);
    context.putImageData(image, 0, 0);
    this.shown = source;
  }

  // -- zoom and place -----------------------------------------------------------------------------

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const density = globalThis.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * density), Math.round(clientHeight * density)];
    if (!width || (this.canvas.width === width && this.canvas.height === height)) return;
    [this.canvas.width, this.canvas.height] = [width, height];
    if (this.isFitted) this.fit();
    else this.draw();
  }

  fit() {
    this.isFitted = true;
    if (this.picture) {
      const { width, height } = this.picture;
      this.scale = Math.min(this.canvas.width / width, this.canvas.height / height);
      this.left = (this.canvas.width - width * this.scale) / 2;
      this.top = (this.canvas.height - height * this.scale) / 2;
    }
    this.draw();
  }

  /** Zoom by a factor about a point of the canvas, by default its middle. */
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    if (!this.picture) return;
    const least = Math.min(this.canvas.width / this.picture.width, this.canvas.height / this.picture.height) / 4;
    const scale = factor === 1 / this.scale ? 1 : Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.schedule();
  }

  showActual() {
    if (!this.picture) return;
    this.zoom(1 / this.scale);
    [this.left, this.top] = [Math.round(this.left), Math.round(this.top)]; // pixel on pixel
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.isFitted = false;
    this.schedule();
  }

  /** Draw in the next frame; `again` windows the samples first. */
  schedule(again = false) {
    this.again ||= again;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.again && this.picture) this.render();
      this.again = false;
      this.draw();
    });
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.picture) {
      if (this.shown !== findHalf(this.picture, this.scale) && !this.isRough) this.render();
      const { width, height } = this.picture;
      const place = [this.left, this.top, width * this.scale, height * this.scale];
      context.imageSmoothingEnabled = this.scale < 8;
      context.imageSmoothingQuality = this.isRough ? "low" : "high";
      context.drawImage(this.buffer, ...place);
      if (this.heat && this.overlay > 0) drawOver(context, this.heat, this.overlay, place);
    }
    this.onWindow(this.describeWindow());
  }

  // -- hands --------------------------------------------------------------------------------------

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [x, y] = this.find(event);
      this.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY)) / 400), x, y);
    }, { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
  }

  find(event) {
    const box = this.canvas.getBoundingClientRect();
    const density = this.canvas.width / box.width;
    return [(event.clientX - box.left) * density, (event.clientY - box.top) * density];
  }

  /** Follow a drag: moving, or, with the right button or Shift, windowing. */
  grab(event) {
    const canvas = this.canvas;
    const windows = event.button === 2 || event.shiftKey;
    let [x, y] = this.find(event);
    canvas.setPointerCapture(event.pointerId);
    const follow = (moved) => {
      const [newX, newY] = this.find(moved);
      if (windows) this.changeWindow((y - newY) / canvas.height, (2 * (newX - x)) / canvas.width, { rough: true });
      else this.move(newX - x, newY - y);
      [x, y] = [newX, newY];
    };
    const end = () => {
      canvas.removeEventListener("pointermove", follow);
      this.isRough = false;
      if (windows) this.schedule(true);
    };
    canvas.addEventListener("pointermove", follow);
    canvas.addEventListener("lostpointercapture", end, { once: true });
  }
}

function drawOver(context, heat, share, [left, top, width, height]) {
  const [boxTop, boxLeft, boxHeight, boxWidth] = heat.box;
  context.globalAlpha = share;
  context.imageSmoothingEnabled = true;
  context.drawImage(heat.canvas, left + boxLeft * width, top + boxTop * height, boxWidth * width, boxHeight * height);
  context.globalAlpha = 1;
}

function round(value) {
  return Math.abs(value) < 10 ? value.toFixed(1) : String(Math.round(value));
}
