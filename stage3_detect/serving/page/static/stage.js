/** The images of a study side by side, and what the pointer does to them. */

import { make } from "./dom.js";
import { followPointer } from "./pointer.js";
import { Tile } from "./tile.js";

/** @import {App} from "./app.js" */
/** @import {Reading} from "./types.js" */

export class Stage {
  /** @type {Map<string, Tile>} */ tiles = new Map();

  /** @param {App} app @param {HTMLElement} box @param {(reading: Reading) => void} retry */
  constructor(app, box, retry) {
    this.app = app;
    this.box = box;
    this.retry = retry;
    this.grid = make("div", "grid");
    box.append(this.grid);
    new ResizeObserver(() => this.layOut()).observe(box);
    app.on("study", (reading) => (reading ? this.tiles.get(reading.id)?.drawAll() : this.#sync()));
    app.on("active", () => this.layOut());
    app.on("view", (reading) => this.#tileOf(reading)?.drawAll());
    app.on("marks", () => this.tiles.forEach((tile) => tile.drawMarks()));
  }

  /** @returns {Tile|undefined} */
  get activeTile() {
    return this.tiles.get(this.app.activeId);
  }

  /** @param {Reading} [reading] */
  #tileOf(reading) {
    return reading && this.tiles.get(reading.id);
  }

  /** Tiles for the images of the page, in their order. */
  #sync() {
    const { readings } = this.app;
    for (const [id] of this.tiles) if (!readings.some((reading) => reading.id === id)) this.tiles.delete(id);
    for (const reading of readings) {
      if (this.tiles.has(reading.id)) continue;
      const tile = new Tile(this.app, reading, this.retry);
      tile.box.addEventListener("focus", () => this.app.activate(reading.id));
      followPointer(this.app, tile);
      this.tiles.set(reading.id, tile);
    }
    this.grid.replaceChildren(...readings.map((reading) => this.tiles.get(reading.id)?.box));
    this.layOut();
  }

  /** Columns that leave the images largest, or the active image alone. */
  layOut() {
    const { readings, single, activeId } = this.app;
    const shown = readings.filter((reading) => !single || reading.id === activeId);
    const columns = bestColumns(shown.length, this.box.clientWidth / Math.max(1, this.box.clientHeight));
    this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    this.grid.style.gridTemplateRows = `repeat(${Math.ceil(shown.length / columns) || 1}, minmax(0, 1fr))`;
    for (const [id, tile] of this.tiles) tile.box.hidden = single && id !== activeId;
    for (const reading of shown) this.tiles.get(reading.id)?.resize();
  }
}

/** Columns of a grid of upright images. @param {number} count @param {number} aspect  width by height of the area
 * @returns {number} */
export function bestColumns(count, aspect) {
  const upright = 0.85;
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const size = Math.min(aspect / columns / upright, 1 / rows);
    if (size > best.size) best = { columns, size };
  }
  return best.columns;
}
