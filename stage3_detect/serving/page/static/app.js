/** State of the page. Parts of the page listen to topics and redraw themselves. */

import { Corrections } from "./corrections.js";
import { defaultFilter } from "./filter.js";
import { fitView } from "./geometry.js";
import { WHOLE_RANGE } from "./picture.js";

/** @import {Filter, Focus, Model, Reading, Size} from "./types.js" */

/** @typedef {"study"|"active"|"marks"|"view"|"model"|"status"} Topic */

/** @typedef {{name: string, size: Size, detections: import("./types.js").Detection[]}} Prior */

export class App {
  /** @type {Model|null} */ model = null;
  /** @type {Filter} */ filter = { kind: "threshold", value: 0.5 };
  /** @type {Reading[]} */ readings = [];
  /** @type {string} */ activeId = "";
  /** @type {Focus|null} */ focus = null;
  /** @type {Prior|null} */ prior = null;
  /** Ids of the readings saved from this page. @type {Map<string, string>} */ saved = new Map();
  hidden = false;
  heat = true;
  single = false;
  correcting = false;
  drawing = false;
  /** @type {string|null} */ selectedId = null;
  /** @type {"pan"|"window"} */ tool = "pan";
  clicks = 0;
  droppedAt = 0;
  /** What the footer says. */ message = () => "";
  /** @type {Map<Topic, ((reading?: Reading) => void)[]>} */ #listeners = new Map();

  /** @param {Topic} topic @param {(reading?: Reading) => void} listener */
  on(topic, listener) {
    this.#listeners.set(topic, [...(this.#listeners.get(topic) ?? []), listener]);
  }

  /** @param {Topic} topic @param {Reading} [reading] */
  emit(topic, reading) {
    for (const listener of this.#listeners.get(topic) ?? []) listener(reading);
  }

  /** @returns {Reading|undefined} */
  get active() {
    return this.readings.find((reading) => reading.id === this.activeId);
  }

  /** The active image, if it can be read and corrected. @returns {Reading|undefined} */
  get readyActive() {
    return this.active?.status === "ready" ? this.active : undefined;
  }

  get isDirty() {
    return this.readings.some((reading) => reading.corrections?.isDirty);
  }

  /** @param {Model} model  as the service describes it */
  setModel(model) {
    this.model = model;
    this.filter = defaultFilter(model);
    Object.assign(this, { focus: null, selectedId: null, drawing: false });
    this.emit("model");
    this.emit("marks");
  }

  /** @param {string|(() => string)} text  announced to screen readers, too; a function: said again when marks change */
  say(text) {
    this.message = typeof text === "string" ? () => text : text;
    this.emit("status");
  }

  /** @param {string} id */
  activate(id) {
    if (id === this.activeId) return;
    this.activeId = id;
    this.selectedId = null;
    this.emit("active");
    this.emit("marks");
  }

  /** @param {number} step  1 for the next image, -1 for the one before */
  activateNext(step) {
    const count = this.readings.length;
    if (!count) return;
    const index = this.readings.findIndex((reading) => reading.id === this.activeId);
    this.activate(this.readings[(index + step + count) % count].id);
  }

  /** @param {Focus|null} focus */
  setFocus(focus) {
    if (JSON.stringify(focus) === JSON.stringify(this.focus)) return;
    this.focus = focus;
    this.emit("marks");
  }

  /** @param {Filter} filter */
  setFilter(filter) {
    this.filter = filter;
    this.emit("marks");
  }

  /** @param {"hidden"|"heat"|"single"|"drawing"} name */
  toggle(name) {
    this[name] = !this[name];
    this.emit(name === "single" ? "active" : "marks");
    if (name === "single") this.emit("marks");
  }

  toggleTool() {
    this.tool = this.tool === "pan" ? "window" : "pan";
    this.emit("marks");
  }

  setCorrecting(/** @type {boolean} */ on) {
    this.correcting = on;
    this.drawing = false;
    this.selectedId = null;
    this.focus = null;
    for (const reading of this.readings) if (on && reading.status === "ready") startCorrections(reading);
    this.emit("marks");
  }

  /** @param {string|null} id */
  select(id) {
    this.selectedId = id;
    this.emit("marks");
  }

  /** Change how the active image is shown. @param {Partial<Reading>} change @param {Reading} [reading] */
  show(change, reading = this.readyActive) {
    if (!reading) return;
    Object.assign(reading, change);
    this.emit("view", reading);
  }

  /** Back to the whole image with its whole range of greys. */
  resetView() {
    const reading = this.readyActive;
    if (reading) this.show({ view: fitView(reading.size), window: WHOLE_RANGE, inverted: false });
  }
}

/** @param {Reading} reading @returns {Corrections} */
export function startCorrections(reading) {
  reading.corrections ??= new Corrections(reading.detections, reading.size);
  return reading.corrections;
}

let counter = 0;

/** @param {File} file @returns {Reading} */
export function newReading(file) {
  counter += 1;
  return {
    id: `image${counter}`, file, name: file.name, status: "loading", message: "Reading the image", canRetry: false,
    size: { width: 1, height: 1 }, sha256: "", modelSha256: "", quality: { ok: true, reasons: [], abstained: false }, detections: [], withheld: [],
    picture: null, window: WHOLE_RANGE, inverted: false, view: { zoom: 1, x: 0, y: 0 }, truth: [], maps: null,
    mapsMessage: "", corrections: null, isWhole: false, seconds: 0, clicks: 0, clicksToBoxes: null,
  };
}
