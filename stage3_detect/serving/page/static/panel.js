/** The panel next to the images: name and quality of the active image, and which boxes are shown. */

import { startCorrections } from "./app.js";
import { byId, counted, make, setAttributes } from "./dom.js";
import { limitOf, limitText } from "./filter.js";
import { modelMarks } from "./marks.js";
import { NO_MODEL } from "./model.js";

/** @import {App} from "./app.js" */
/** @import {Measured, Model, Reading} from "./types.js" */

/** Label of the button, and what the point means. @type {Record<string, [string, string]>} */
const POINT_TEXTS = {
  f1: ["Best balance", "Best balance of missed and false boxes (F1)"],
  half_fp: ["Fewer false", "Aims at one false box in two images"],
  one_fp: ["More found", "Aims at one false box per image"],
};

/** @param {App} app */
export function setUpPanel(app) {
  app.on("model", () => buildPoints(app));
  for (const topic of /** @type {const} */ (["study", "active", "marks"])) {
    app.on(topic, () => {
      drawAbout(app);
      drawFilter(app);
    });
  }
  byId("show-withheld").addEventListener("click", () => showWithheld(app));
  byId("threshold").addEventListener("input", (/** @type {Event} */ event) => {
    const { value } = /** @type {HTMLInputElement} */ (event.target);
    app.setFilter({ kind: "threshold", value: Number(value) / 100 });
  });
}

/** @param {App} app */
function buildPoints(app) {
  const { model } = app;
  if (!model) return;
  const names = Object.keys(model.points);
  const buttons = names.map((name) => pointButton(app, name, model));
  byId("points").replaceChildren(...buttons);
  byId("points").hidden = !names.length;
  drawFilter(app);
}

/** @param {App} app @param {string} name @param {Model} model */
function pointButton(app, name, model) {
  const text = POINT_TEXTS[name]?.[0] ?? name;
  const button = make("button", "", { type: "button", textContent: text, title: pointSentence(name, model) });
  button.dataset.point = name;
  button.setAttribute("role", "radio");
  button.addEventListener("click", () => app.setFilter({ kind: "point", name }));
  button.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => moveRadio(event, button));
  return button;
}

/** @param {string} name @param {Model} model */
function pointSentence(name, model) {
  const { about, confidence, measured } = model.points[name];
  const limit = confidence === null ? "the confidence from which boxes are shown differs by finding" : `confidence from ${limitText(confidence)}`;
  return `${POINT_TEXTS[name]?.[1] ?? about}: ${limit}. ${measured ? measuredSentence(measured) : ""}`.trim();
}

/** @param {Measured} measured */
function measuredSentence({ false_per_image, low, high }) {
  const interval = low === null || high === null ? "" : ` [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return `Measured on test images: ${false_per_image.toFixed(2)}${interval} false boxes per image.`;
}

/** Arrow keys inside the radio group. @param {KeyboardEvent} event @param {HTMLElement} button */
function moveRadio(event, button) {
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const next = step && button[/** @type {"nextElementSibling"} */ (step)];
  if (!(next instanceof HTMLElement)) return;
  event.preventDefault();
  event.stopPropagation();
  next.click();
  next.focus();
}

/** @param {App} app */
function drawFilter(app) {
  const { model, filter } = app;
  if (!model) return;
  const point = filter.kind === "point" ? filter.name : "";
  const buttons = [...byId("points").children];
  buttons.forEach((button, index) => {
    const isChosen = button.dataset.point === point;
    setAttributes(button, { "aria-checked": isChosen });
    button.tabIndex = isChosen || (!point && index === 0) ? 0 : -1;
  });
  byId("point-about").textContent = point
    ? pointSentence(point, model)
    : "Your own threshold, the same for all findings.";
  const limit = limitOf(app);
  byId("threshold").classList.toggle("unset", limit === null);
  byId("threshold").value = String(100 * (limit ?? 0.5));
  byId("threshold-value").textContent = limit === null ? "by finding" : limitText(limit);
}

/** @param {App} app */
function drawAbout(app) {
  const reading = app.active;
  byId("image-name").textContent = reading ? reading.name : "No image";
  const quality = byId("quality");
  quality.dataset.kind = qualityKind(reading);
  quality.textContent = reading ? qualitySentence(app, reading) : "Open an image to see its findings.";
  byId("show-withheld").hidden = !reading?.withheld.length || Boolean(reading.corrections?.isDirty);
}

/** Show the boxes of an unsuitable image, as the reader wishes. @param {App} app */
function showWithheld(app) {
  const reading = app.readyActive;
  if (!reading) return;
  Object.assign(reading, { detections: reading.withheld, withheld: [], corrections: null });
  if (app.correcting) startCorrections(reading);
  app.emit("marks");
  app.say("");
}

/** @param {Reading|undefined} reading */
function qualityKind(reading) {
  if (reading?.status === "error") return "error";
  return reading?.status === "ready" ? (reading.quality.ok ? "ok" : "poor") : "";
}

/** @param {App} app @param {Reading} reading */
export function qualitySentence(app, reading) {
  if (reading.status !== "ready") return reading.message;
  if (!app.model) return NO_MODEL;
  const count = modelMarks(app, reading).filter((mark) => mark.action !== "rejected").length;
  const found = count ? `${counted(count, "box is", "boxes are")} shown.` : "No box at this setting.";
  const { ok, abstained, reasons } = reading.quality;
  if (abstained && !reading.detections.length) return `Not analysed. ${reasons.join(" ")}`;
  return `${found} ${ok ? fineSentence(app.model) : reasons.join(" ")}`;
}

/** What is said of an image that the gate lets pass. The gate of a model that knows synthetic images only cannot tell
 * whether a real one is suited. @param {Model} model */
function fineSentence(model) {
  return model.synthetic
    ? "This model knows computer-generated images only: on a real radiograph its boxes mean nothing."
    : "Image quality: nothing unusual.";
}
