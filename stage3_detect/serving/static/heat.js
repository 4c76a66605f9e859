/** Heat maps: from the service's numbers to small canvases that are stretched over the image. */

import { heatTable } from "./palette.js";

const TABLE = heatTable();

/** @param {{grid_hw: [number, number], maps: {finding: string, probability: number, values_base64: string}[]}} answer
 * @returns {Map<string, {probability: number, canvas: HTMLCanvasElement}>} */
export function heatMaps(answer) {
  const [height, width] = answer.grid_hw;
  const maps = new Map();
  for (const { finding, probability, values_base64: text } of answer.maps) {
    const values = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    maps.set(finding, { probability, canvas: heatCanvas(values, { width, height }) });
  }
  return maps;
}

/** @param {Uint8Array} values @param {{width: number, height: number}} size */
function heatCanvas(values, size) {
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(size.width, size.height);
  values.forEach((value, index) => image.data.set(TABLE.subarray(4 * value, 4 * value + 4), 4 * index));
  context.putImageData(image, 0, 0);
  return canvas;
}
