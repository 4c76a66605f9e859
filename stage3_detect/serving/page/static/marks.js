/** Which boxes lie over an image at the moment: detections or corrected boxes, ground truth, prior boxes. */

import { isShown, limitOf, percent, valueOf } from "./filter.js";
import { rescaleBox } from "./geometry.js";

/** @import {App} from "./app.js" */
/** @import {Detection, Edit, Focus, Mark, Reading} from "./types.js" */

/** Marks to draw, those of the model first. Empty while the reader hides them. @param {App} app
 * @param {Reading} reading @returns {Mark[]} */
export function visibleMarks(app, reading) {
  if (app.hidden || reading.status !== "ready") return [];
  const marks = [...modelMarks(app, reading), ...truthMarks(reading), ...priorMarks(app, reading)];
  const focus = app.focus;
  return focus ? marks.filter((mark) => isFocused(mark, focus)) : marks;
}

/** Boxes of the model at the filter, as the reader corrected them. @param {App} app @param {Reading} reading
 * @returns {Mark[]} */
export function modelMarks(app, reading) {
  if (reading.corrections) {
    return reading.corrections.edits.filter((edit) => isEditShown(app, edit)).map((edit) => editMark(edit, limitOf(app)));
  }
  const model = app.model;
  if (!model) return [];
  return reading.detections.flatMap((found, index) =>
    isShown(found, app.filter, model) ? [detectionMark(found, `d${index}`, limitOf(app))] : []);
}

/** Boxes at the filter about which the reader said nothing yet. @param {App} app @param {Reading} reading */
export function undecided(app, reading) {
  const edits = reading.corrections?.edits ?? [];
  return edits.filter((edit) => edit.action === null && isEditShown(app, edit)).map((edit) => edit.id);
}

/** @param {Mark} mark @param {Focus} focus */
function isFocused(mark, focus) {
  const isModels = mark.kind === "detection" || mark.kind === "edit";
  if (focus.markId !== null && isModels) return mark.id === focus.markId;
  return focus.findings.includes(mark.finding);
}

/** @param {App} app @param {Edit} edit */
function isEditShown(app, edit) {
  if (edit.action === "rejected") return app.correcting;
  if (edit.action !== null || !edit.source || !app.model) return true;
  return isShown(edit.source, app.filter, app.model);
}

/** @param {Detection} found @param {string} id @param {number|null} limit @returns {Mark} */
function detectionMark(found, id, limit) {
  const text = `${found.finding} ${percent(valueOf(found), limit)}`;
  return { id, kind: "detection", finding: found.finding, xyxy: found.box_xyxy, text };
}

/** @param {Edit} edit @param {number|null} limit @returns {Mark} */
function editMark(edit, limit) {
  const value = edit.source ? percent(valueOf(edit.source), limit) : "";
  const text = `${edit.finding} ${edit.action ?? value}`;
  return { id: edit.id, kind: "edit", finding: edit.finding, xyxy: edit.xyxy, text, action: edit.action ?? "undecided" };
}

/** @param {Reading} reading @returns {Mark[]} */
function truthMarks(reading) {
  return reading.truth.map((box, index) => (
    { id: `t${index}`, kind: "truth", finding: box.finding, xyxy: box.box_xyxy, text: `truth: ${box.finding}` }));
}

/** @param {App} app @param {Reading} reading @returns {Mark[]} */
function priorMarks(app, reading) {
  const { prior, model } = app;
  if (!prior || !model || reading.id !== app.activeId) return [];
  return prior.detections.filter((found) => isShown(found, app.filter, model)).map((found, index) => ({
    id: `p${index}`, kind: "prior", finding: found.finding, text: `prior: ${found.finding} ${percent(valueOf(found))}`,
    xyxy: rescaleBox(found.box_xyxy, prior.size, reading.size),
  }));
}
