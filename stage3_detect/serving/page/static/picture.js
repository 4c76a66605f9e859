/** Grey values of an image and their display: window and level through a table of all grey values. */

/** @import {Size, Window} from "./types.js" */

/** @typedef {Uint8Array|Uint16Array} Greys */
/**
 * One size of the image. An odd last row or column is lost when an image is halved; `coverX` and `coverY` are the shares
 * of the image that the level still covers.
 * @typedef {Size & {greys: Greys, coverX: number, coverY: number}} Level
 */

const SMALLEST_LEVEL = 256;

/** @type {Window} */
export const WHOLE_RANGE = Object.freeze({ centre: 0.5, width: 1 });

/** An image in sizes that halve each time, so that a window change touches about as many pixels as the screen has. */
export class Picture {
  /** @param {Size} size @param {Greys} greys  row by row */
  constructor(size, greys) {
    /** @type {Level[]} */
    this.levels = [{ ...size, greys, coverX: 1, coverY: 1 }];
    this.max = greys instanceof Uint16Array ? 65535 : 255;
    this.canvas = document.createElement("canvas");
    this.painted = "";
  }

  /** A canvas with the windowed image, at least `width` pixels wide where the image is, and the level on it.
   * @param {Window} window @param {boolean} inverted @param {number} width
   * @returns {{canvas: HTMLCanvasElement, level: Level}} */
  paint(window, inverted, width) {
    const level = this.levelFor(width);
    const key = `${level.width} ${window.centre} ${window.width} ${inverted}`;
    if (key !== this.painted) {
      this.#draw(level, greyTable(this.max, window, inverted));
      this.painted = key;
    }
    return { canvas: this.canvas, level };
  }

  /** The smallest level with at least `width` columns; a strip has no level without rows.
   * @param {number} width @returns {Level} */
  levelFor(width) {
    let index = 0;
    for (;;) {
      const { width: columns, height } = this.levels[index];
      if (columns / 2 < Math.max(width, SMALLEST_LEVEL) || height < 2) break;
      this.levels[index + 1] ??= halved(this.levels[index]);
      index += 1;
    }
    return this.levels[index];
  }

  /** @param {Level} level @param {Uint32Array} table */
  #draw(level, table) {
    const { width, height, greys } = level;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d", { alpha: false }));
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = table[greys[i]];
    context.putImageData(image, 0, 0);
  }
}

/** RGBA (as one little-endian number) of each grey value. @param {number} max @param {Window} window
 * @param {boolean} inverted @returns {Uint32Array} */
export function greyTable(max, window, inverted) {
  const table = new Uint32Array(max + 1);
  const low = window.centre - window.width / 2;
  for (let value = 0; value <= max; value += 1) {
    const share = Math.min(1, Math.max(0, (value / max - low) / window.width));
    const grey = Math.round(255 * (inverted ? 1 - share : share));
    table[value] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return table;
}

/** Means of 2 x 2 pixels. @param {Level} level @returns {Level} */
export function halved(level) {
  const [width, height] = [level.width >> 1, level.height >> 1];
  const greys = level.greys instanceof Uint16Array ? new Uint16Array(width * height) : new Uint8Array(width * height);
  for (let y = 0; y < height; y += 1) {
    let at = 2 * y * level.width;
    for (let x = 0, to = y * width; x < width; x += 1, at += 2, to += 1) {
      const below = at + level.width;
      greys[to] = (level.greys[at] + level.greys[at + 1] + level.greys[below] + level.greys[below + 1] + 2) >> 2;
    }
  }
  const [coverX, coverY] = [(level.coverX * 2 * width) / level.width, (level.coverY * 2 * height) / level.height];
  return { width, height, greys, coverX, coverY };
}

/** The window after a drag: right is more contrast, down is brighter. @param {Window} window
 * @param {number} dx @param {number} dy  shares of the tile @returns {Window} */
export function dragWindow(window, dx, dy) {
  const width = Math.min(2, Math.max(0.02, window.width * Math.exp(-2 * dx)));
  const centre = Math.min(1.2, Math.max(-0.2, window.centre - 0.8 * dy * Math.min(1, window.width + 0.2)));
  return { centre, width };
}
