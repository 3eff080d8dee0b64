// The list of pictures: any number of rows, of which only those in view are fetched and drawn.

import { address, ask } from "./api.js";

const PAGE = 100;
const SPARE = 6; // rows drawn beyond each edge

export class Worklist {
  constructor({ onChoose }) {
    this.list = document.getElementById("list");
    this.rows = document.getElementById("rows");
    this.onChoose = onChoose;
    this.query = {};
    this.positive = null; // of two labels, the one whose probability a row shows
    this.total = 0;
    this.chosen = null;
    this.pages = new Map();
    this.items = new Map();
    this.list.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.list);
    this.rows.addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (item?.dataset.number) this.onChoose(Number(item.dataset.number), Number(item.dataset.place));
    });
  }

  get height() {
    return this.rows.firstElementChild?.offsetHeight || 3.1 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  /** Begin anew with another query; the first page is there when this is done. */
  async ask(query) {
    this.query = query;
    return this.refresh({ top: true });
  }

  /** Fetch what is in view again: something has changed. Answers overtaken by a later question are dropped. */
  async refresh({ top = false } = {}) {
    const pages = new Map();
    this.pages = pages;
    if (top) this.list.scrollTop = 0;
    const first = Math.floor(this.list.scrollTop / this.height / PAGE) * PAGE;
    const page = await this.fetchPage(first, pages);
    if (pages !== this.pages) return null;
    this.total = page.total;
    this.draw();
    return page;
  }

  fetchPage(first, pages = this.pages) {
    if (!pages.has(first)) {
      const asked = ask(address("/api/rows", this.query, { first, most: PAGE })).then((page) => {
        if (pages === this.pages) {
          pages.set(first, page);
          this.draw();
        }
        return page;
      });
      pages.set(first, asked);
    }
    return pages.get(first);
  }

  choose(number, place) {
    this.chosen = number;
    if (place >= 0) {
      const [top, bottom] = [place * this.height, (place + 1) * this.height];
      if (top < this.list.scrollTop) this.list.scrollTop = top;
      else if (bottom > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = bottom - this.list.clientHeight;
    }
    this.draw();
  }

  draw() {
    const height = this.height;
    this.rows.style.height = `${this.total * height}px`;
    const first = Math.max(0, Math.floor(this.list.scrollTop / height) - SPARE);
    const last = Math.min(this.total, Math.ceil((this.list.scrollTop + this.list.clientHeight) / height) + SPARE);
    for (const [place, item] of this.items) {
      if (place < first || place >= last) {
        item.remove();
        this.items.delete(place);
      }
    }
    this.list.removeAttribute("aria-activedescendant");
    for (let place = first; place < last; place++) this.drawItem(place);
  }

  drawItem(place) {
    const page = this.fetchPage(Math.floor(place / PAGE) * PAGE);
    const row = page instanceof Promise ? null : page.rows[place % PAGE];
    let item = this.items.get(place);
    if (!item) {
      item = makeItem(place);
      this.rows.append(item);
      this.items.set(place, item);
    }
    item.style.transform = `translateY(${place * this.height}px)`; // the font may have grown with the window
    item.setAttribute("aria-setsize", this.total);
    item.setAttribute("aria-posinset", place + 1);
    if (!row) return;
    const chosen = row.number === this.chosen;
    item.dataset.number = row.number;
    item.setAttribute("aria-selected", chosen);
    if (chosen) this.list.setAttribute("aria-activedescendant", item.id);
    fillItem(item, row, { place, positive: this.positive });
  }
}

function makeItem(place) {
  const item = document.createElement("div");
  item.className = "item";
  item.id = `item-${place}`;
  item.dataset.place = place;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", "false");
  for (const name of ["file", "said", "told"]) {
    const part = document.createElement("span");
    part.className = name;
    item.append(part);
  }
  return item;
}

function fillItem(item, row, { place, positive }) {
  const [file, said, told] = item.children;
  const name = row.hidden ? `Picture ${place + 1}` : row.path.split(/[\\/]/).pop();
  write(file, name);
  write(said, row.verdict ?? "");
  said.className = `said ${row.verdict ?? ""}`;
  write(told, row.hidden ? "" : describeAnswer(row, positive));
  item.title = row.hidden ? "" : row.path;
}

/** "PNEUMONIA 0.5624", or "NORMAL (PNEUMONIA 0.2859)": the list is ordered by the positive label. */
function describeAnswer({ status, label, score }, positive) {
  if (status !== "ok") return status;
  const shown = score.toFixed(4);
  return positive && label !== positive ? `${label} (${positive} ${shown})` : `${label} ${shown}`;
}

function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
