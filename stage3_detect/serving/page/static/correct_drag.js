/** Corrections with the pointer: select, move and resize a box, or draw a new one. */

import { startCorrections } from "./app.js";
import { edgeDistance, moveBox, tidyBox } from "./geometry.js";
import { element, handlePoints } from "./overlay.js";
import { pickFinding } from "./picker.js";

/** @import {App} from "./app.js" */
/** @import {Drawn} from "./overlay.js" */
/** @import {Drag} from "./pointer.js" */
/** @import {Tile} from "./tile.js" */
/** @import {Box, Edit} from "./types.js" */

const GRIP_PX = 9;
const EDGE_PX = 5;
const SAME_PLACE_PX = 4;
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
  const hits = boxesUnder(tile, point);
  const kept = selected && hits.includes(selected) && (isOnBorder(hits[0], point) ? isSamePlace(event) : true);
  const found = kept ? selected : hits[0];
  lastPress = { x: event.clientX, y: event.clientY };
  if (!found) app.select(null);
  if (!found) return null;
  if (!kept) app.select(found.mark.id);
  const next = hits[(hits.indexOf(found) + 1) % hits.length].mark.id;
  return withClick(event, changeDrag(app, tile, event, null), () => kept && app.select(next));
}

/** Where the pointer was last pressed, CSS pixels of the page. */
let lastPress = { x: Number.NaN, y: Number.NaN };

/** @param {PointerEvent} event */
function isSamePlace(event) {
  return Math.hypot(event.clientX - lastPress.x, event.clientY - lastPress.y) <= SAME_PLACE_PX;
}

/** A drag that counts as a click if the pointer does not move. @param {PointerEvent} start @param {Drag} drag
 * @param {() => void} click @returns {Drag} */
function withClick(start, drag, click) {
  return {
    move: drag.move,
    end: (event) => {
      drag.end(event);
      const isClick = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < STARTS_AT_PX;
      if (isClick && event.type === "pointerup") click();
    },
  };
}

/** @param {App} app @param {Tile} tile @param {PointerEvent} event */
export function hoverCursor(app, tile, event) {
  if (app.drawing) return "crosshair";
  const point = tile.point(event);
  const selected = tile.drawn.find(({ mark }) => mark.id === app.selectedId);
  const grip = selected ? gripAt(selected.box, point) : -1;
  if (grip >= 0) return CURSORS[grip];
  return boxesUnder(tile, point).length ? "move" : "";
}

/** @param {Box} box @param {[number, number]} point */
function gripAt(box, [x, y]) {
  return handlePoints(box).findIndex((grip) => Math.hypot(grip.x - x, grip.y - y) <= GRIP_PX);
}

/** Boxes of the model or the reader at a point: those with their caption or edge there first, then those around it,
 * small ones first. @param {Tile} tile @param {[number, number]} point */
function boxesUnder(tile, point) {
  const edits = tile.drawn.filter(({ mark }) => mark.kind === "edit");
  const onBorder = edits.filter((one) => isOnBorder(one, point))
    .sort((a, b) => borderDistance(a, point) - borderDistance(b, point));
  const around = edits.filter((one) => isInside(one.box, point) && !onBorder.includes(one))
    .sort((a, b) => areaOf(a.box) - areaOf(b.box));
  return [...onBorder, ...around];
}

/** @param {Drawn} one @param {[number, number]} point */
function isOnBorder(one, point) {
  return borderDistance(one, point) <= EDGE_PX;
}

/** Pixels to the edge of the box; 0 on its caption. @param {Drawn} one @param {[number, number]} point */
function borderDistance({ box, caption }, point) {
  return caption && isInside(caption, point) ? 0 : edgeDistance(box, ...point);
}

/** @param {Box} box @param {[number, number]} point */
function isInside(box, [x, y]) {
  return x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
}

/** @param {Box} box */
function areaOf(box) {
  return (box[2] - box[0]) * (box[3] - box[1]);
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
      if (!edit || edit.action === "rejected" || (!box && Math.hypot(...by) < STARTS_AT_PX)) return;
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
