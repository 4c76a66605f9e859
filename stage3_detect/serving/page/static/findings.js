/** The list of findings of the active image: a bar for each, parents above their children. */

import { byId, counted, make, setAttributes } from "./dom.js";
import { bestValues, caveatOf, findingRows, limitOf, percent } from "./filter.js";
import { modelMarks } from "./marks.js";
import { colourOf } from "./palette.js";

/** @import {App} from "./app.js" */
/** @import {Row} from "./filter.js" */
/** @import {Mark} from "./types.js" */

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
    if (this.options.length) this.options[0].tabIndex = 0;
    this.draw();
  }

  /** Rows that can be pointed at. */
  get options() {
    return this.items.filter((_, index) => !this.rows[index].isHeading);
  }

  /** @param {Row} row @param {number} index @returns {HTMLElement} */
  #item(row, index) {
    if (row.isHeading) return headingItem(row);
    const item = make("div", "finding", { tabIndex: -1 });
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
    for (const item of this.options) item.tabIndex = item === this.items[index] ? 0 : -1;
    this.app.setFocus({ findings: this.#family(index), markId: null });
  }

  /** Move to the next or previous finding by keyboard. @param {number} step */
  step(step) {
    const { options } = this;
    if (!options.length) return;
    const at = options.findIndex((item) => item === document.activeElement);
    const next = options[at < 0 ? (step > 0 ? 0 : options.length - 1) : (at + step + options.length) % options.length];
    next.focus({ preventScroll: false });
    this.focus(this.items.indexOf(next));
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
    const marks = (reading ? modelMarks(this.app, reading) : []).filter((mark) => mark.action !== "rejected");
    this.#drawNote();
    this.rows.forEach((row, index) => {
      if (!row.isHeading) this.#drawItem(index, best.get(row.finding), marks.filter((mark) => mark.finding === row.finding));
    });
  }

  /** Findings of which no box is to be expected at the chosen point. */
  #drawNote() {
    const { model, filter } = this.app;
    if (!model) return;
    /** @type {Record<string, string[]>} */
    const named = {};
    for (const finding of model.findings) {
      const caveat = caveatOf(finding, filter, model);
      if (caveat) (named[caveat] ??= []).push(finding);
    }
    const sentences = Object.entries(named).map(([caveat, findings]) => `At this setting ${caveat}: ${findings.join(", ")}.`);
    byId("findings-note").textContent = sentences.join(" ");
  }

  /** @param {number} index @param {number|undefined} value @param {Mark[]} marks  boxes shown */
  #drawItem(index, value, marks) {
    const [row, item] = [this.rows[index], this.items[index]];
    const isFocused = this.app.focus?.findings[0] === row.finding;
    const count = marks.length;
    const isDrawn = count > 0 && marks.every((mark) => mark.action === "drawn");
    const text = isDrawn ? "drawn" : value === undefined ? "" : percent(value, limitOf(this.app));
    const { model, filter } = this.app;
    const caveat = model ? caveatOf(row.finding, filter, model) : "";
    item.title = [text || "no box of any confidence", ...(caveat ? [caveat] : [])].join(", ");
    item.classList.toggle("present", count > 0);
    item.classList.toggle("focused", isFocused);
    /** @type {HTMLElement} */ (item.querySelector(".fill")).style.width = `${isDrawn ? 0 : 100 * (value ?? 0)}%`;
    /** @type {HTMLElement} */ (item.querySelector(".value")).textContent = count > 1 ? `${count} x  ${text}` : text || "–";
    const label = `${row.finding}: ${isDrawn ? "drawn, " : text ? `highest confidence ${text}, ` : ""}${counted(count, "box", "boxes")} shown${caveat ? `, ${caveat}` : ""}`;
    setAttributes(item, { "aria-selected": isFocused, "aria-label": label });
  }
}

/** A parent without boxes of its own. @param {Row} row @returns {HTMLElement} */
function headingItem(row) {
  const item = make("div", "finding heading");
  item.setAttribute("role", "presentation");
  item.style.setProperty("--depth", String(row.depth));
  item.append(make("span", "swatch"), make("span", "name", { textContent: row.finding }));
  return item;
}
