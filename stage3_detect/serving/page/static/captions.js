/** Places of captions at boxes, so that they neither overlap each other nor leave the tile where that is possible. */

/** @import {Box, Size} from "./types.js" */

const GAP = 2;
const STEPS = 8;
const FAR = 60; // one step away is as bad as covering so many pixels of another box
const ON_CAPTION = 1000;
const SMALL_BOX = 9000; // square pixels; a caption hides less of a larger box

/**
 * One place per caption, in the given order: the first caption chooses first.
 * @param {Box[]} boxes  of the captions, screen pixels @param {Size[]} sizes  of the captions @param {Size} tile
 * @param {Box[]} taken  places of other texts @returns {Box[]}
 */
export function placeCaptions(boxes, sizes, tile, taken = []) {
  const placed = [...taken];
  boxes.forEach((box, index) => {
    let best = null;
    let bestCost = Infinity;
    for (const { place, distance } of candidates(box, sizes[index], tile)) {
      const harm = harmOf(place, placed, boxes);
      const cost = harm + FAR * distance;
      if (cost < bestCost) [best, bestCost] = [place, cost];
      if (harm === 0) break;
    }
    placed.push(/** @type {Box} */ (best));
  });
  return placed.slice(taken.length);
}

/** Places around a box, best first: above, below, at the sides, further and further away; at last inside.
 * @param {Box} box @param {Size} size @param {Size} tile @returns {Generator<{place: Box, distance: number}>} */
function* candidates(box, size, tile) {
  const [x1, y1, x2, y2] = box;
  const right = x2 - size.width;
  for (let distance = 0; distance < STEPS; distance += 1) {
    const away = distance * (size.height + GAP);
    const [above, below] = [y1 - size.height - GAP - away, y2 + GAP + away];
    const [toRight, toLeft] = [x2 + GAP, x1 - size.width - GAP];
    for (const [x, y] of [
      [x1, above], [right, above], [x1, below], [right, below],
      [toRight, y1 + away], [toLeft, y1 + away], [toRight, y2 - size.height - away], [toLeft, y2 - size.height - away],
    ]) yield { place: inside(x, y, size, tile), distance };
  }
  yield { place: inside(x1 + GAP, y1 + GAP, size, tile), distance: 0 };
}

/** @param {number} x @param {number} y @param {Size} size @param {Size} tile @returns {Box} */
function inside(x, y, size, tile) {
  const left = Math.max(0, Math.min(x, tile.width - size.width));
  const top = Math.max(0, Math.min(y, tile.height - size.height));
  return [left, top, left + size.width, top + size.height];
}

/** Overlap with other captions weighs most; covering boxes is the lesser harm. @param {Box} place
 * @param {Box[]} captions @param {Box[]} boxes */
function harmOf(place, captions, boxes) {
  let harm = 0;
  for (const other of captions) harm += ON_CAPTION * overlap(place, other);
  for (const other of boxes) harm += overlap(place, other) * Math.min(1, SMALL_BOX / areaOf(other));
  return harm;
}

/** @param {Box} box */
function areaOf(box) {
  return Math.max(1, (box[2] - box[0]) * (box[3] - box[1]));
}

/** Common area. @param {Box} a @param {Box} b */
export function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 ? width * height : 0;
}
