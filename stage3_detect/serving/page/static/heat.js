/** Heat maps: from the service's numbers to canvases that are stretched over the image. */

import { heatTable } from "./palette.js";

const TABLE = new Uint32Array(heatTable().buffer);
const LONGER_SIDE = 160;

/** @param {{grid_hw: [number, number], maps: {finding: string, probability: number, values_base64: string}[]}} answer
 * @returns {Map<string, {probability: number, canvas: HTMLCanvasElement}>} */
export function heatMaps(answer) {
  const [height, width] = answer.grid_hw;
  const maps = new Map();
  for (const { finding, probability, values_base64: text } of answer.maps) {
    const values = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    maps.set(finding, { probability, canvas: heatCanvas(enlarged(values, { width, height })) });
  }
  return maps;
}

/** @typedef {{width: number, height: number, values: Uint8Array}} Grid */

/** @param {Grid} grid */
function heatCanvas({ width, height, values }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  values.forEach((value, index) => { pixels[index] = TABLE[value]; });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Values between the grid's, linear; colours between colours would be others than those of the values between.
 * @param {Uint8Array} values @param {{width: number, height: number}} size @returns {Grid} */
export function enlarged(values, size) {
  const factor = Math.max(1, Math.round(LONGER_SIDE / Math.max(size.width, size.height)));
  const [width, height] = [size.width * factor, size.height * factor];
  const [columns, rows] = [positions(size.width, factor), positions(size.height, factor)];
  const grid = new Uint8Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const [top, bottom, down] = rows[y];
    for (let x = 0; x < width; x += 1) {
      const [left, right, across] = columns[x];
      const at = (/** @type {number} */ row) =>
        values[row * size.width + left] * (1 - across) + values[row * size.width + right] * across;
      grid[y * width + x] = at(top) * (1 - down) + at(bottom) * down + 0.5;
    }
  }
  return { width, height, values: grid };
}

/** For each fine cell: the two coarse cells around its centre, and the weight of the second.
 * @param {number} count @param {number} factor @returns {[number, number, number][]} */
function positions(count, factor) {
  return Array.from({ length: count * factor }, (_, index) => {
    const place = Math.min(count - 1, Math.max(0, (index + 0.5) / factor - 0.5));
    const low = Math.floor(place);
    return [low, Math.min(count - 1, low + 1), place - low];
  });
}
