/** Mouse and pen on a tile: pan, zoom, window, pointing at a box. Corrections have their own file. */

import { correctionDrag, hoverCursor } from "./correct_drag.js";
import { edgeDistance, fitView, panBy, zoomAt } from "./geometry.js";
import { dragWindow } from "./picture.js";

/** @import {App} from "./app.js" */
/** @import {Tile} from "./tile.js" */

/** @typedef {{move: (event: PointerEvent) => void, end: (event: PointerEvent) => void}} Drag */

const EDGE_PX = 7;

/** @param {App} app @param {Tile} tile */
export function followPointer(app, tile) {
  /** @type {Drag|null} */
  let drag = null;
  tile.box.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (isOnButton(event)) return;
    app.activate(tile.reading.id);
    if (tile.reading.status !== "ready") return;
    tile.box.setPointerCapture(event.pointerId);
    drag = startDrag(app, tile, event);
  });
  tile.box.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (drag) drag.move(event);
    else pointAt(app, tile, event);
  });
  const end = (/** @type {PointerEvent} */ event) => {
    if (event.type === "pointerup") drag?.move(event); // moves before it may have been left out
    drag?.end(event);
    drag = null;
  };
  tile.box.addEventListener("pointerup", end);
  tile.box.addEventListener("pointercancel", end);
  tile.box.addEventListener("pointerleave", () => app.setFocus(null));
  tile.box.addEventListener("contextmenu", (/** @type {Event} */ event) => event.preventDefault());
  tile.box.addEventListener("dblclick", () => doubleClick(app, tile));
  tile.box.addEventListener("wheel", (/** @type {WheelEvent} */ event) => zoomByWheel(app, tile, event), { passive: false });
}

/** @param {PointerEvent} event */
function isOnButton(event) {
  return event.target instanceof Element && event.target.closest("button") !== null;
}

/** @param {App} app @param {Tile} tile @param {PointerEvent} event @returns {Drag} */
function startDrag(app, tile, event) {
  if (event.button === 2) return windowDrag(app, tile, event);
  const correction = app.correcting && event.button === 0 ? correctionDrag(app, tile, event) : null;
  if (correction) return correction;
  return app.tool === "window" && event.button === 0 ? windowDrag(app, tile, event) : panDrag(app, tile, event);
}

/** @param {App} app @param {Tile} tile @param {PointerEvent} start @returns {Drag} */
function windowDrag(app, tile, start) {
  const { window } = tile.reading;
  return {
    move: (event) => {
      const dx = (event.clientX - start.clientX) / tile.size.width;
      const dy = (event.clientY - start.clientY) / tile.size.height;
      app.show({ window: dragWindow(window, dx, dy) }, tile.reading);
    },
    end: () => {},
  };
}

/** @param {App} app @param {Tile} tile @param {PointerEvent} start @returns {Drag} */
function panDrag(app, tile, start) {
  const { view, size } = tile.reading;
  const { scale } = tile.transform;
  return {
    move: (event) => {
      const by = /** @type {[number, number]} */ ([event.clientX - start.clientX, event.clientY - start.clientY]);
      if (view.zoom > 1) app.show({ view: panBy(view, size, scale, by) }, tile.reading);
    },
    end: () => {},
  };
}

/** Isolate the box whose edge or caption is under the pointer. Inside a box the image stays free of the map.
 * @param {App} app @param {Tile} tile @param {PointerEvent} event */
function pointAt(app, tile, event) {
  if (app.correcting) {
    tile.box.style.cursor = hoverCursor(app, tile, event);
    return;
  }
  tile.box.style.cursor = "";
  const found = boxAt(tile, ...tile.point(event));
  app.setFocus(found ? { findings: [found.mark.finding], markId: found.mark.id } : null);
}

/** @param {Tile} tile @param {number} x @param {number} y */
function boxAt(tile, x, y) {
  const onCaption = tile.drawn.find(({ caption }) =>
    caption && x >= caption[0] && x <= caption[2] && y >= caption[1] && y <= caption[3]);
  if (onCaption) return onCaption;
  const near = tile.drawn.map((one) => ({ one, distance: edgeDistance(one.box, x, y) }));
  near.sort((a, b) => a.distance - b.distance);
  return near[0]?.distance <= EDGE_PX ? near[0].one : undefined;
}

/** @param {App} app @param {Tile} tile */
function doubleClick(app, tile) {
  if (app.correcting) return;
  if (app.readings.length > 1) app.toggle("single");
  else if (tile.reading.status === "ready") app.show({ view: fitView(tile.reading.size) }, tile.reading);
}

/** @param {App} app @param {Tile} tile @param {WheelEvent} event */
function zoomByWheel(app, tile, event) {
  event.preventDefault();
  if (tile.reading.status !== "ready") return;
  const [x, y] = tile.point(event);
  const { view, size } = tile.reading;
  const factor = Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015));
  app.show({ view: zoomAt(view, size, tile.size, { factor, x, y }) }, tile.reading);
}
