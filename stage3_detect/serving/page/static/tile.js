/** One image on the page: canvas of the image, canvas of the heat map, SVG of the marks, texts. */

import { isolated, make } from "./dom.js";
import { bestValues, limitOf, percent } from "./filter.js";
import { clamp, toImage, transformOf } from "./geometry.js";
import { visibleMarks } from "./marks.js";
import { drawMarks } from "./overlay.js";
import { WHOLE_RANGE } from "./picture.js";

/** @import {App} from "./app.js" */
/** @import {Box, Reading, Size, Transform, Window} from "./types.js" */

// Confidence with full opacity; below, maps fade out, since each one reaches its own full range.
const FULL_FROM = 0.6;

export class Tile {
  /** @type {import("./overlay.js").Drawn[]} */ drawn = [];
  #shown = "";

  /** @param {App} app @param {Reading} reading @param {(reading: Reading) => void} retry */
  constructor(app, reading, retry) {
    this.app = app;
    this.reading = reading;
    this.base = make("canvas", "base");
    this.heat = make("canvas", "heat");
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.svg.setAttribute("class", "marks");
    this.svg.setAttribute("role", "img");
    this.title = make("p", "title");
    this.mapNote = make("p", "map-note", { hidden: true });
    this.message = make("p", "message");
    this.retry = make("button", "retry", { type: "button", textContent: "Try again", hidden: true });
    this.retry.addEventListener("click", () => retry(reading));
    this.box = make("div", "tile", { tabIndex: 0 });
    this.box.dataset.id = reading.id;
    this.box.setAttribute("role", "group");
    const notice = make("div", "notice");
    notice.append(this.message, this.retry);
    this.box.append(this.base, this.heat, this.svg, this.title, this.mapNote, notice);
    /** @type {Size} */
    this.size = { width: 0, height: 0 };
    /** @type {Box} */
    this.titleBox = [0, 0, 0, 0];
  }

  /** @returns {Transform} */
  get transform() {
    return transformOf(this.reading.view, this.reading.size, this.size);
  }

  /** Image point under a pointer. @param {MouseEvent} event @returns {[number, number]} */
  imagePoint(event) {
    return toImage(this.transform, ...this.point(event));
  }

  /** Screen point inside the tile. @param {MouseEvent} event @returns {[number, number]} */
  point(event) {
    const rect = this.svg.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  }

  /** Take the size from the page, then draw. */
  resize() {
    const { width: tileWidth, height: tileHeight } = this.box.getBoundingClientRect();
    this.size = { width: tileWidth, height: tileHeight };
    this.drawTexts();
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = this.title;
    this.titleBox = [left, top, left + width, top + height];
    for (const canvas of [this.base, this.heat]) {
      canvas.width = Math.round(this.size.width * devicePixelRatio);
      canvas.height = Math.round(this.size.height * devicePixelRatio);
    }
    this.#shown = "";
    this.drawAll();
  }

  drawAll() {
    this.drawTexts();
    if (this.reading.status !== "ready" || !this.size.width) return;
    this.drawBase();
    this.drawMarks();
  }

  drawTexts() {
    const { reading } = this;
    this.box.classList.toggle("active", reading.id === this.app.activeId);
    this.box.dataset.status = reading.status;
    this.title.textContent = reading.status === "ready"
      ? `${isolated(reading.name)}  ${reading.size.width} x ${reading.size.height}${windowText(reading.window)}` : reading.name;
    this.message.textContent = reading.status === "ready" ? "" : reading.message;
    this.retry.hidden = !(reading.status === "error" && reading.canRetry);
    this.box.setAttribute("aria-label", `Image ${isolated(reading.name)}${reading.status === "error" ? `: ${reading.message}` : ""}`);
  }

  drawBase() {
    const { picture, view, window, inverted, size } = this.reading;
    if (!picture) return;
    const t = this.transform;
    const ratio = devicePixelRatio;
    const { canvas, level } = picture.paint(window, inverted, size.width * t.scale * ratio);
    const context = this.base.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.base.width, this.base.height);
    context.imageSmoothingQuality = view.zoom > 1 ? "medium" : "high";
    const [width, height] = [size.width * t.scale * level.coverX, size.height * t.scale * level.coverY];
    context.drawImage(canvas, t.left * ratio, t.top * ratio, width * ratio, height * ratio);
  }

  /** Boxes and heat map; the image below stays as it is. */
  drawMarks() {
    const { app, reading } = this;
    const marks = visibleMarks(app, reading);
    const selectedId = app.correcting && reading.id === app.activeId ? app.selectedId : null;
    const how = {
      transform: this.transform, tile: this.size, findings: app.model?.findings ?? [], selectedId, taken: [this.titleBox],
    };
    this.drawn = drawMarks(this.svg, marks, how);
    const texts = marks.map((mark) => mark.text).join(", ");
    this.svg.setAttribute("aria-label", texts ? `Marked: ${texts}` : "No marks");
    this.#drawHeat();
  }

  /** The map of the finding under the pointer. */
  #drawHeat() {
    const { app, reading } = this;
    const finding = app.heat && !app.hidden && app.model?.map_method ? (app.focus?.findings[0] ?? "") : "";
    const map = reading.maps?.get(finding);
    this.mapNote.hidden = !finding;
    this.mapNote.textContent = finding ? this.#mapText(finding, map?.probability) : "";
    const t = this.transform;
    const key = map ? `${finding} ${t.scale} ${t.left} ${t.top}` : "";
    if (key === this.#shown) return;
    this.#shown = key;
    this.box.dataset.map = map ? finding : "";
    const context = this.heat.getContext("2d");
    context.clearRect(0, 0, this.heat.width, this.heat.height);
    if (!map) return;
    const { width, height } = reading.size;
    const place = [t.left, t.top, width * t.scale, height * t.scale].map((value) => value * devicePixelRatio);
    context.imageSmoothingQuality = "high";
    const surest = Math.max(map.probability, bestValues(reading.detections).get(finding) ?? 0);
    context.globalAlpha = clamp(surest / FULL_FROM, 0, 1);
    context.drawImage(map.canvas, ...place);
    context.globalAlpha = 1;
  }

  /** @param {string} finding @param {number|undefined} probability */
  #mapText(finding, probability) {
    const { maps, mapsMessage, detections } = this.reading;
    if (probability !== undefined) {
      const best = bestValues(detections).get(finding);
      const box = best === undefined ? "no box" : `best box ${percent(best, limitOf(this.app))}`;
      return `Where the classifier looked for ${finding}: classifier ${percent(probability)}, ${box}`;
    }
    if (maps) return `${finding} has no heat map`;
    return mapsMessage ? `No heat map. ${mapsMessage}` : "The heat map is loading";
  }
}

/** The window, in percent of the image's grey range, where the reader changed it. @param {Window} window */
function windowText({ centre, width }) {
  if (centre === WHOLE_RANGE.centre && width === WHOLE_RANGE.width) return "";
  return `  window width ${percent(width)}, level ${percent(centre)}`;
}
