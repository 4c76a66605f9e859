/** Where an image lies in its tile, and the way from image pixels to the screen and back. */

/** @import {Box, Size, Transform, View} from "./types.js" */

const MAX_ZOOM = 24;

/** The view that shows the whole image. @param {Size} image @returns {View} */
export function fitView(image) {
  return { zoom: 1, x: image.width / 2, y: image.height / 2 };
}

/** @param {View} view @param {Size} image @param {Size} tile @returns {Transform} */
export function transformOf(view, image, tile) {
  const scale = view.zoom * Math.min(tile.width / image.width, tile.height / image.height);
  return { scale, left: tile.width / 2 - view.x * scale, top: tile.height / 2 - view.y * scale };
}

/** @param {Transform} t @param {Box} xyxy @returns {Box} */
export function toScreen(t, xyxy) {
  return [
    t.left + xyxy[0] * t.scale, t.top + xyxy[1] * t.scale,
    t.left + xyxy[2] * t.scale, t.top + xyxy[3] * t.scale,
  ];
}

/** @param {Transform} t @param {number} x @param {number} y @returns {[number, number]} */
export function toImage(t, x, y) {
  return [(x - t.left) / t.scale, (y - t.top) / t.scale];
}

/** Zoom by a factor; the image point under (x, y) of the tile stays there.
 * @param {View} view @param {Size} image @param {Size} tile @param {{factor: number, x: number, y: number}} by
 * @returns {View}
 */
export function zoomAt(view, image, tile, by) {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * by.factor));
  if (zoom === 1) return fitView(image);
  const [px, py] = toImage(transformOf(view, image, tile), by.x, by.y);
  const ratio = view.zoom / zoom;
  return kept({ zoom, x: px + (view.x - px) * ratio, y: py + (view.y - py) * ratio }, image);
}

/** Move the image by screen pixels. @param {View} view @param {Size} image @param {number} scale
 * @param {[number, number]} by @returns {View} */
export function panBy(view, image, scale, [dx, dy]) {
  return kept({ ...view, x: view.x - dx / scale, y: view.y - dy / scale }, image);
}

/** The centre of the tile never leaves the image. @param {View} view @param {Size} image @returns {View} */
function kept(view, image) {
  return { ...view, x: clamp(view.x, 0, image.width), y: clamp(view.y, 0, image.height) };
}

/** @param {number} value @param {number} low @param {number} high */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** Corners in order and inside the image. @param {Box} box @param {Size} image @returns {Box} */
export function tidyBox(box, image) {
  const [x1, x2] = [box[0], box[2]].map((x) => clamp(x, 0, image.width)).sort((a, b) => a - b);
  const [y1, y2] = [box[1], box[3]].map((y) => clamp(y, 0, image.height)).sort((a, b) => a - b);
  return [x1, y1, x2, y2];
}

/** The box moved as a whole, kept inside the image. @param {Box} box @param {Size} image
 * @param {number} dx @param {number} dy @returns {Box} */
export function moveBox(box, image, dx, dy) {
  const mx = clamp(dx, -box[0], image.width - box[2]);
  const my = clamp(dy, -box[1], image.height - box[3]);
  return [box[0] + mx, box[1] + my, box[2] + mx, box[3] + my];
}

/** A box of another image of the patient at the same relative place. @param {Box} box @param {Size} from
 * @param {Size} to @returns {Box} */
export function rescaleBox(box, from, to) {
  const [sx, sy] = [to.width / from.width, to.height / from.height];
  return [box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy];
}

/** Distance in pixels from a point to the edge line of a box. @param {Box} box @param {number} x @param {number} y */
export function edgeDistance(box, x, y) {
  const dx = Math.max(box[0] - x, 0, x - box[2]);
  const dy = Math.max(box[1] - y, 0, y - box[3]);
  if (dx > 0 || dy > 0) return Math.hypot(dx, dy);
  return Math.min(x - box[0], box[2] - x, y - box[1], box[3] - y);
}
