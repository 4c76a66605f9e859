/** The list of findings of the active image: a bar for each, parents above their children. */

import { counted, make, setAttributes } from "./dom.js";
import { bestValues, findingRows, percent } from "./filter.js";
import { modelMarks } from "./marks.js";
import { colourOf } from "./palette.js";

/** @import {App} from "./app.js" */
/** @import {Row} from "./filter.js" */

const MOST_TALL_ROWS = 12;

export class FindingList {
  /** @type {Row[]} */ rows = [];
  /** @type {HTMLElement[]} */ items = [];

  /** @param {App} app @param {HTMLElement} box */
  constructor(app, box) {
    this.app = app;
    this.box = box;
    app.on("model", () => this.#build());
    for (const topic of /** @type {const} */ (["study", "active", "marks"])) app.on(topic, () => this.draw());
    box.addEventListener("pointerleave", () => app.setFocus(null));
    box.addEventListener("focusout", (event) => {
      if (!box.contains(/** @type {Node|null} */ (event.relatedTarget))) app.setFocus(null);
    });
  }

  #build() {
    const { model } = this.app;
    if (!model) return;
    this.rows = findingRows(model);
    this.items = this.rows.map((row, index) => this.#item(row, index));
    this.box.replaceChildren(...this.items);
    this.draw();
  }

  /** @param {Row} row @param {number} index @returns {HTMLElement} */
  #item(row, index) {
    const item = make("div", `finding${row.isHeading ? " heading" : ""}`, { tabIndex: index ? -1 : 0 });
    item.dataset.finding = row.finding;
    item.setAttribute("role", "option");
    item.style.setProperty("--depth", String(row.depth));
    item.style.setProperty("--colour", colourOf(row.finding, this.app.model?.findings ?? []));
    item.append(make("span", "swatch"), make("span", "name", { textContent: row.finding }));
    const track = make("span", "track");
    track.append(make("span", "fill"));
    item.append(track, make("span", "value"));
    item.addEventListener("pointerenter", () => this.focus(index));
    item.addEventListener("focus", () => this.focus(index));
    return item;
  }

  /** Isolate a finding and those below it. @param {number} index */
  focus(index) {
    this.items.forEach((item, at) => { item.tabIndex = at === index ? 0 : -1; });
    this.app.setFocus({ findings: this.#family(index), markId: null });
  }

  /** Move to the next or previous finding by keyboard. @param {number} step */
  step(step) {
    if (!this.items.length) return;
    const at = this.items.findIndex((item) => item === document.activeElement);
    const next = at < 0 ? (step > 0 ? 0 : this.items.length - 1) : (at + step + this.items.length) % this.items.length;
    this.items[next].focus({ preventScroll: false });
    this.focus(next);
  }

  /** @param {number} index @returns {string[]} */
  #family(index) {
    const { depth } = this.rows[index];
    const below = this.rows.slice(index + 1);
    const end = below.findIndex((row) => row.depth <= depth);
    return [this.rows[index], ...below.slice(0, end < 0 ? below.length : end)].map((row) => row.finding);
  }

  draw() {
    this.box.classList.toggle("compact", this.app.correcting || this.items.length > MOST_TALL_ROWS);
    const reading = this.app.readyActive;
    const best = bestValues(reading?.detections ?? []);
    const shown = new Map();
    for (const mark of reading ? modelMarks(this.app, reading) : []) {
      if (mark.action !== "rejected") shown.set(mark.finding, (shown.get(mark.finding) ?? 0) + 1);
    }
    this.rows.forEach((row, index) => this.#drawItem(index, best.get(row.finding), shown.get(row.finding) ?? 0));
  }

  /** @param {number} index @param {number|undefined} value @param {number} count  boxes shown */
  #drawItem(index, value, count) {
    const [row, item] = [this.rows[index], this.items[index]];
    const isFocused = this.app.focus?.findings[0] === row.finding;
    const text = value === undefined ? "" : percent(value);
    item.classList.toggle("present", count > 0);
    item.classList.toggle("focused", isFocused);
    /** @type {HTMLElement} */ (item.querySelector(".fill")).style.width = `${100 * (value ?? 0)}%`;
    /** @type {HTMLElement} */ (item.querySelector(".value")).textContent = count > 1 ? `${count} x  ${text}` : text;
    const label = `${row.finding}: ${text ? `highest confidence ${text}, ` : ""}${counted(count, "box", "boxes")} shown`;
    setAttributes(item, { "aria-selected": isFocused, "aria-label": label });
  }
}
