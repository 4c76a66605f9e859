/** What a reader changes about the boxes of one image: pure data with undo, no drawing. */

import { tidyBox } from "./geometry.js";

/** @import {Box, Detection, Edit, Size} from "./types.js" */

const MIN_SIDE_PX = 4;

export class Corrections {
  /** @type {Edit[][]} */ #past = [];
  #drawn = 0;

  /** @param {Detection[]} detections @param {Size} size  of the image in pixels */
  constructor(detections, size) {
    this.size = size;
    /** @type {Edit[]} */
    this.edits = detections.map((source, index) => ({
      id: `d${index}`, finding: source.finding, xyxy: source.box_xyxy, action: null, source,
    }));
    this.saved = this.edits;
    this.savedId = "";
    this.savedAs = "";
  }

  get isDirty() {
    return this.edits !== this.saved;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  /** @param {string|null} id @returns {Edit|undefined} */
  find(id) {
    return this.edits.find((edit) => edit.id === id);
  }

  /** @param {string[]} ids  boxes that the reader agrees with as they are */
  accept(ids) {
    const chosen = new Set(ids);
    this.#replace((edit) => (chosen.has(edit.id) ? { ...edit, action: settledAction(edit) ?? "accepted" } : edit));
  }

  /** A drawn box disappears, a box of the model is kept as rejected. @param {string} id */
  reject(id) {
    this.#commit(this.edits.flatMap((edit) => {
      if (edit.id !== id) return [edit];
      return edit.source ? [{ ...restored(edit, edit.source), action: "rejected" }] : [];
    }));
  }

  /** @param {string} id @param {Box} xyxy */
  move(id, xyxy) {
    const box = tidyBox(xyxy, this.size);
    if (!isLargeEnough(box)) return;
    this.#replace((edit) => (edit.id === id ? settled({ ...edit, xyxy: box }) : edit));
  }

  /** @param {string} id @param {string} finding */
  relabel(id, finding) {
    this.#replace((edit) => (edit.id === id ? settled({ ...edit, finding }) : edit));
  }

  /** Add a box; returns its id, or null if it is too small to be meant. @param {string} finding @param {Box} xyxy */
  draw(finding, xyxy) {
    const box = tidyBox(xyxy, this.size);
    if (!isLargeEnough(box)) return null;
    this.#drawn += 1;
    const id = `n${this.#drawn}`;
    this.#commit([...this.edits, { id, finding, xyxy: box, action: "drawn", source: null }]);
    return id;
  }

  undo() {
    const before = this.#past.pop();
    if (before) this.edits = before;
    return Boolean(before);
  }

  /** @param {Edit[]} edits  what was sent @param {string} as  what else was sent with them
   * @param {string} id  of the record */
  markSaved(edits, as, id) {
    this.saved = edits;
    this.savedAs = as;
    this.savedId = id;
  }

  /** The decided boxes as the service takes them. */
  records() {
    return this.edits.filter((edit) => edit.action !== null).map((edit) => ({
      finding: edit.finding,
      box_xyxy: edit.xyxy,
      action: edit.action,
      score: edit.source?.score ?? null,
      original_box_xyxy: edit.source && !sameBox(edit.xyxy, edit.source.box_xyxy) ? edit.source.box_xyxy : null,
      original_finding: edit.source && edit.finding !== edit.source.finding ? edit.source.finding : null,
    }));
  }

  /** @param {(edit: Edit) => Edit} change */
  #replace(change) {
    this.#commit(this.edits.map(change));
  }

  /** @param {Edit[]} edits */
  #commit(edits) {
    const same = edits.length === this.edits.length && edits.every((edit, index) => edit === this.edits[index]);
    if (same) return;
    this.#past.push(this.edits);
    this.edits = edits;
  }
}

/** @param {Edit} edit @returns {Edit} */
function settled(edit) {
  return { ...edit, action: settledAction(edit) ?? "accepted" };
}

/** What the difference to the model's box is called; null where there is none. @param {Edit} edit
 * @returns {"drawn"|"relabelled"|"moved"|null} */
function settledAction(edit) {
  if (!edit.source) return "drawn";
  if (edit.finding !== edit.source.finding) return "relabelled";
  return sameBox(edit.xyxy, edit.source.box_xyxy) ? null : "moved";
}

/** @param {Edit} edit @param {Detection} source @returns {Edit} */
function restored(edit, source) {
  return { ...edit, finding: source.finding, xyxy: source.box_xyxy };
}

/** @param {Box} a @param {Box} b */
function sameBox(a, b) {
  return a.every((value, index) => value === b[index]);
}

/** @param {Box} box */
function isLargeEnough(box) {
  return box[2] - box[0] >= MIN_SIDE_PX && box[3] - box[1] >= MIN_SIDE_PX;
}
