/** Draws marks as SVG over a tile: a box with a dark edge, and its caption. */

import { overlap, placeCaptions } from "./captions.js";
import { toScreen } from "./geometry.js";
import { colourOf } from "./palette.js";

/** @import {Box, Mark, Size, Transform} from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";
const MAX_CAPTIONS = 24;
const FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
const HANDLE_PX = 9;

const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/** @typedef {{mark: Mark, box: Box, caption: Box|null}} Drawn  boxes on the screen, for hit tests */

/**
 * Replace what the SVG shows.
 * @param {SVGSVGElement} svg @param {Mark[]} marks  the first lie on top
 * @param {{transform: Transform, tile: Size, findings: string[], selectedId: string|null, taken: Box[]}} how
 *   taken: places of other texts @returns {Drawn[]}
 */
export function drawMarks(svg, marks, how) {
  const fontPx = how.tile.width < 480 ? 11 : 13;
  /** @type {Drawn[]} */
  const drawn = marks.map((mark) => ({ mark, box: toScreen(how.transform, mark.xyxy), caption: null }));
  addCaptions(drawn, fontPx, how);
  const rects = drawn.toReversed().map(({ mark, box }) => boxGroup(mark, box, colourOf(mark.finding, how.findings)));
  const plates = drawn.toReversed().flatMap(({ mark, box, caption }) =>
    caption ? [captionGroup({ mark, box, caption }, colourOf(mark.finding, how.findings), fontPx)] : []);
  const selected = drawn.find(({ mark }) => mark.id === how.selectedId);
  svg.replaceChildren(...rects, ...plates, ...(selected ? handles(selected.box) : []));
  return drawn;
}

/** @param {Drawn[]} drawn @param {number} fontPx @param {{tile: Size, taken: Box[]}} how */
function addCaptions(drawn, fontPx, how) {
  const named = drawn.filter((one) => !isNamedAlready(one, drawn)).slice(0, MAX_CAPTIONS);
  const sizes = named.map(({ mark }) => captionSize(mark.text, fontPx));
  const places = placeCaptions(named.map(({ box }) => box), sizes, how.tile, how.taken);
  named.forEach((one, index) => { one.caption = places[index]; });
}

/** A true or prior box over a box of the model with the same finding needs no second name.
 * @param {Drawn} one @param {Drawn[]} drawn */
function isNamedAlready(one, drawn) {
  if (one.mark.kind !== "truth" && one.mark.kind !== "prior") return false;
  return drawn.some(({ mark, box }) => (mark.kind === "detection" || mark.kind === "edit")
    && mark.finding === one.mark.finding && overlap(box, one.box) > 0);
}

/** @param {string} text @param {number} fontPx @returns {Size} */
function captionSize(text, fontPx) {
  pen.font = `600 ${fontPx}px ${FONT}`;
  return { width: Math.ceil(pen.measureText(text).width) + 10, height: fontPx + 6 };
}

/** @param {Mark} mark @param {Box} box @param {string} colour */
function boxGroup(mark, box, colour) {
  const [x, y, width, height] = [box[0], box[1], box[2] - box[0], box[3] - box[1]];
  const group = element("g", { class: `mark ${mark.kind} ${mark.action ?? ""}`, "data-id": mark.id });
  group.dataset.finding = mark.finding;
  group.append(
    element("rect", { class: "halo", x, y, width, height }),
    element("rect", { class: "line", x, y, width, height, stroke: colour }),
  );
  return group;
}

/** @param {{mark: Mark, box: Box, caption: Box}} place @param {string} colour @param {number} fontPx */
function captionGroup({ mark, box, caption }, colour, fontPx) {
  const [x, y, x2, y2] = caption;
  const group = element("g", { class: `caption ${mark.kind} ${mark.action ?? ""}`, "data-id": mark.id });
  const text = element("text", { x: x + 5, y: y2 - 5, fill: colour, "font-size": fontPx });
  text.textContent = mark.text;
  group.append(...leader(box, caption, colour), element("rect", { x, y, width: x2 - x, height: y2 - y }), text);
  return group;
}

/** A thin line to a caption that found no place at its box. @param {Box} box @param {Box} caption
 * @param {string} stroke */
function leader(box, caption, stroke) {
  const gap = Math.max(box[1] - caption[3], caption[1] - box[3], box[0] - caption[2], caption[0] - box[2]);
  if (gap < 8) return [];
  const x = Math.min(Math.max(box[0] + 6, caption[0]), caption[2]);
  const isAbove = caption[3] < box[1];
  return [element("line", {
    class: "leader", x1: x, y1: isAbove ? caption[3] : caption[1], x2: Math.min(Math.max(x, box[0]), box[2]),
    y2: isAbove ? box[1] : Math.min(box[3], caption[1]), stroke,
  })];
}

/** Points to drag, in the order of `handlePoints`. @param {Box} box */
function handles(box) {
  return handlePoints(box).map(({ x, y }) => element("rect", {
    class: "handle", x: x - HANDLE_PX / 2, y: y - HANDLE_PX / 2, width: HANDLE_PX, height: HANDLE_PX,
  }));
}

/** Corners and middles of the sides, with the coordinates of the box that each one moves (-1: none).
 * @param {Box} box @returns {{x: number, y: number, moves: [number, number]}[]} */
export function handlePoints([x1, y1, x2, y2]) {
  const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return [
    { x: x1, y: y1, moves: [0, 1] }, { x: x2, y: y1, moves: [2, 1] }, { x: x2, y: y2, moves: [2, 3] },
    { x: x1, y: y2, moves: [0, 3] }, { x: cx, y: y1, moves: [-1, 1] }, { x: x2, y: cy, moves: [2, -1] },
    { x: cx, y: y2, moves: [-1, 3] }, { x: x1, y: cy, moves: [0, -1] },
  ];
}

/** @param {string} name @param {Record<string, string|number>} attributes */
export function element(name, attributes) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
