/** Corrections with the pointer: select, move and resize a box, or draw a new one. */

import { startCorrections } from "./app.js";
import { moveBox, tidyBox } from "./geometry.js";
import { element, handlePoints } from "./overlay.js";
import { pickFinding } from "./picker.js";

/** @import {App} from "./app.js" */
/** @import {Drag} from "./pointer.js" */
/** @import {Tile} from "./tile.js" */
/** @import {Box, Edit} from "./types.js" */

const GRIP_PX = 9;
const STARTS_AT_PX = 3;
const CURSORS = ["nwse-resize", "nesw-resize", "nwse-resize", "nesw-resize", "ns-resize", "ew-resize", "ns-resize", "ew-resize"];

/** The drag that begins here, or null to pan the image. @param {App} app @param {Tile} tile
 * @param {PointerEvent} event @returns {Drag|null} */
export function correctionDrag(app, tile, event) {
  const point = tile.point(event);
  if (app.drawing) return drawDrag(app, tile, tile.imagePoint(event));
  const selected = tile.drawn.find(({ mark }) => mark.id === app.selectedId);
  const grip = selected ? gripAt(selected.box, point) : -1;
  if (selected && grip >= 0) return changeDrag(app, tile, event, handlePoints(selected.box)[grip].moves);
  const found = boxUnder(tile, point);
  app.select(found?.mark.id ?? null);
  return found && found.mark.action !== "rejected" ? changeDrag(app, tile, event, null) : null;
}

/** @param {App} app @param {Tile} tile @param {PointerEvent} event */
export function hoverCursor(app, tile, event) {
  if (app.drawing) return "crosshair";
  const point = tile.point(event);
  const selected = tile.drawn.find(({ mark }) => mark.id === app.selectedId);
  const grip = selected ? gripAt(selected.box, point) : -1;
  if (grip >= 0) return CURSORS[grip];
  return boxUnder(tile, point) ? "move" : "";
}

/** @param {Box} box @param {[number, number]} point */
function gripAt(box, [x, y]) {
  return handlePoints(box).findIndex((grip) => Math.hypot(grip.x - x, grip.y - y) <= GRIP_PX);
}

/** The smallest box of the model or the reader around a point, so that boxes inside others can be reached.
 * @param {Tile} tile @param {[number, number]} point */
function boxUnder(tile, [x, y]) {
  const hits = tile.drawn.filter(({ mark, box, caption }) => mark.kind === "edit" && (
    (x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3])
    || (caption && x >= caption[0] && x <= caption[2] && y >= caption[1] && y <= caption[3])));
  const area = (/** @type {Box} */ box) => (box[2] - box[0]) * (box[3] - box[1]);
  return hits.sort((a, b) => area(a.box) - area(b.box))[0];
}

/** Move the selected box, or the sides that a handle moves. One drag is one step for undo.
 * @param {App} app @param {Tile} tile @param {PointerEvent} start @param {[number, number]|null} sides
 * @returns {Drag} */
function changeDrag(app, tile, start, sides) {
  const corrections = startCorrections(tile.reading);
  const edit = corrections.find(app.selectedId);
  const ghost = new Ghost(tile);
  /** @type {Box|null} */
  let box = null;
  return {
    move: (event) => {
      const by = [event.clientX - start.clientX, event.clientY - start.clientY];
      if (!edit || (!box && Math.hypot(...by) < STARTS_AT_PX)) return;
      const { scale } = tile.transform;
      box = changed(edit, tile, sides, [by[0] / scale, by[1] / scale]);
      ghost.show(box);
    },
    end: (event) => {
      ghost.remove();
      if (edit && box && event.type === "pointerup") corrections.move(edit.id, box);
      app.emit("marks");
    },
  };
}

/** @param {Edit} edit @param {Tile} tile @param {[number, number]|null} sides @param {number[]} by  image pixels
 * @returns {Box} */
function changed(edit, tile, sides, [dx, dy]) {
  if (!sides) return moveBox(edit.xyxy, tile.reading.size, dx, dy);
  const box = /** @type {Box} */ ([...edit.xyxy]);
  if (sides[0] >= 0) box[sides[0]] += dx;
  if (sides[1] >= 0) box[sides[1]] += dy;
  return tidyBox(box, tile.reading.size);
}

/** @param {App} app @param {Tile} tile @param {[number, number]} from  image pixels @returns {Drag} */
function drawDrag(app, tile, from) {
  const ghost = new Ghost(tile);
  /** @type {Box} */
  let box = [...from, ...from];
  return {
    move: (event) => {
      box = tidyBox([...from, ...tile.imagePoint(event)], tile.reading.size);
      ghost.show(box);
    },
    end: async (event) => {
      const isMeant = event.type === "pointerup" && !isTiny(box, tile);
      const finding = isMeant ? await pickFinding(app, event.clientX, event.clientY) : null;
      ghost.remove();
      const id = finding ? startCorrections(tile.reading).draw(finding, box) : null;
      app.drawing = false;
      app.select(id);
    },
  };
}

/** @param {Box} box @param {Tile} tile */
function isTiny(box, tile) {
  return Math.min(box[2] - box[0], box[3] - box[1]) * tile.transform.scale < STARTS_AT_PX;
}

/** The box while it is dragged. */
class Ghost {
  /** @param {Tile} tile */
  constructor(tile) {
    this.tile = tile;
    this.rect = element("rect", { class: "ghost" });
  }

  /** @param {Box} box  image pixels */
  show(box) {
    const { scale, left, top } = this.tile.transform;
    const place = { x: left + box[0] * scale, y: top + box[1] * scale, width: (box[2] - box[0]) * scale, height: (box[3] - box[1]) * scale };
    for (const [name, value] of Object.entries(place)) this.rect.setAttribute(name, String(value));
    this.tile.svg.append(this.rect);
  }

  remove() {
    this.rect.remove();
  }
}
