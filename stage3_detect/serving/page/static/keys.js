/** Keys of the page. The same table answers key presses and fills the help. */

import { panBy, zoomAt } from "./geometry.js";
import { dragWindow } from "./picture.js";

/** @import {App} from "./app.js" */
/** @import {CorrectPanel} from "./correct_panel.js" */
/** @import {FindingList} from "./findings.js" */
/** @import {Stage} from "./stage.js" */

/** @typedef {{app: App, stage: Stage, list: FindingList, panel: CorrectPanel, open: () => void, help: () => void}} Parts */
/** @typedef {{keys: string[], about: string, run: (parts: Parts, key: string) => void}} Binding */

const WINDOW_STEP = 0.06;
const PAN_PX = 60;
const NUDGE_PX = 4;

/** @type {Record<string, [number, number]>} */
const DIRECTIONS = { Left: [-1, 0], Right: [1, 0], Up: [0, -1], Down: [0, 1] };
const WITH = (/** @type {string} */ modifier) => Object.keys(DIRECTIONS).map((name) => `${modifier}+Arrow${name}`);

/** A letter without "Shift+" is the key alone. @type {Binding[]} */
const VIEW_BINDINGS = [
  { keys: ["ArrowDown", "ArrowUp"], about: "Next or previous finding: its boxes alone and its heat map", run: nextFinding },
  { keys: ["Escape"], about: "All boxes again", run: ({ app }) => leave(app) },
  { keys: ["H"], about: "Hide or show all marks", run: ({ app }) => app.toggle("hidden") },
  { keys: ["M"], about: "Heat map on or off", run: ({ app }) => app.toggle("heat") },
  { keys: ["I"], about: "Invert the image", run: ({ app }) => app.show({ inverted: !app.active?.inverted }) },
  { keys: ["B", "Shift+B"], about: "Brighter, darker", run: ({ app }, key) => grey(app, 0, key === "B" ? 1 : -1) },
  { keys: ["C", "Shift+C"], about: "More contrast, less contrast", run: ({ app }, key) => grey(app, key === "C" ? 1 : -1, 0) },
  { keys: ["W"], about: "Dragging changes brightness and contrast, as it does with the right mouse button", run: ({ app }) => app.toggleTool() },
  { keys: ["+", "-"], about: "Zoom in, zoom out; also the mouse wheel", run: (parts, key) => zoom(parts, key === "+" ? 1.25 : 0.8) },
  { keys: ["0", "F"], about: "Fit the image", run: (parts) => zoom(parts, 0) },
  { keys: WITH("Shift"), about: "Move the zoomed image; also dragging", run: pan },
  { keys: ["R"], about: "Fit the image, with its whole grey range", run: ({ app }) => app.resetView() },
  { keys: ["ArrowRight", "ArrowLeft"], about: "Next or previous image of the study", run: ({ app }, key) => app.activateNext(key === "ArrowRight" ? 1 : -1) },
  { keys: ["G"], about: "Active image alone, or all; also a double click", run: ({ app }) => app.readings.length > 1 && app.toggle("single") },
  { keys: ["O"], about: "Open images", run: ({ open }) => open() },
  { keys: ["?"], about: "This list", run: ({ help }) => help() },
];

/** @type {Binding[]} */
const CORRECTION_BINDINGS = [
  { keys: ["E"], about: "Correct the boxes, or stop; then up and down select a box", run: ({ app }) => app.setCorrecting(!app.correcting) },
  { keys: ["A"], about: "Accept the selected box", run: ({ panel }) => panel.accept() },
  { keys: ["Shift+A"], about: "Accept all boxes not decided yet", run: ({ panel }) => panel.acceptAll() },
  { keys: ["X", "Delete"], about: "Reject the selected box", run: ({ panel }) => panel.reject() },
  { keys: ["L"], about: "Pick another finding", run: ({ panel }) => void panel.relabel() },
  { keys: ["D"], about: "Draw a box", run: ({ panel }) => panel.draw() },
  { keys: WITH("Alt"), about: "Move the selected box", run: (parts, key) => nudge(parts, key, false) },
  { keys: WITH("Alt+Shift"), about: "Move its lower right corner", run: (parts, key) => nudge(parts, key, true) },
  { keys: ["Ctrl+Z"], about: "Undo", run: ({ panel }) => panel.undo() },
  { keys: ["Ctrl+S"], about: "Save the corrections", run: ({ panel }) => void panel.submit() },
];

/** @param {Parts} parts @param {string} key */
function nextFinding({ app, list, panel }, key) {
  const step = key === "ArrowDown" ? 1 : -1;
  if (app.correcting) panel.selectNext(step);
  else list.step(step);
}

/** @param {App} app */
function leave(app) {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  app.drawing = false;
  app.selectedId = null;
  app.focus = null;
  app.emit("marks");
}

/** @param {App} app @param {number} contrast @param {number} brightness  steps */
function grey(app, contrast, brightness) {
  const window = app.active?.window;
  if (window) app.show({ window: dragWindow(window, contrast * WINDOW_STEP, brightness * WINDOW_STEP) });
}

/** @param {Parts} parts @param {number} factor  0 fits the image */
function zoom({ app, stage }, factor) {
  const [reading, tile] = [app.readyActive, stage.activeTile];
  if (!reading || !tile) return;
  const by = { factor, x: tile.size.width / 2, y: tile.size.height / 2 };
  app.show({ view: zoomAt(reading.view, reading.size, tile.size, by) });
}

/** @param {string} key @returns {[number, number]} */
function direction(key) {
  return DIRECTIONS[key.slice(key.indexOf("Arrow") + "Arrow".length)];
}

/** @param {Parts} parts @param {string} key */
function pan({ app, stage }, key) {
  const [reading, tile] = [app.readyActive, stage.activeTile];
  if (!reading || !tile || reading.view.zoom === 1) return;
  const [dx, dy] = direction(key);
  app.show({ view: panBy(reading.view, reading.size, tile.transform.scale, [-dx * PAN_PX, -dy * PAN_PX]) });
}

/** @param {Parts} parts @param {string} key @param {boolean} isCorner */
function nudge({ stage, panel }, key, isCorner) {
  const scale = stage.activeTile?.transform.scale ?? 1;
  const [dx, dy] = direction(key);
  panel.nudge((dx * NUDGE_PX) / scale, (dy * NUDGE_PX) / scale, isCorner);
}

/** Listen to the keys of the page. @param {Parts} parts @returns {() => [string, string][][]} rows for the help */
export function bindKeys(parts) {
  const groups = () => [VIEW_BINDINGS, parts.app.model?.corrections ? CORRECTION_BINDINGS : []];
  document.addEventListener("keydown", (event) => {
    const key = keyName(event);
    const binding = isTyping(event.target, key) ? undefined : groups().flat().find(({ keys }) => keys.includes(key));
    if (!binding || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    binding.run(parts, key);
  });
  return () => groups().map((bindings) => bindings.map(({ keys, about }) => [helpText(keys), about]));
}

/** "Shift+A", "Ctrl+Z", "ArrowLeft", "?". Shift is not named for signs, since keyboards differ.
 * @param {KeyboardEvent} event */
export function keyName(event) {
  const isSign = event.key.length === 1 && event.key.toLowerCase() === event.key.toUpperCase();
  const name = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const parts = [event.ctrlKey || event.metaKey ? "Ctrl" : "", event.altKey ? "Alt" : "", event.shiftKey && !isSign ? "Shift" : ""];
  return [...parts.filter(Boolean), name === "=" ? "+" : name].join("+");
}

/** Keys that an element needs itself. @param {EventTarget|null} target @param {string} key */
function isTyping(target, key) {
  if (!(target instanceof HTMLElement) || key === "Ctrl+S") return false;
  if (target instanceof HTMLSelectElement) return key.length === 1 || key.startsWith("Arrow");
  if (!(target instanceof HTMLInputElement)) return false;
  if (target.type === "range") return key.startsWith("Arrow");
  return target.type !== "checkbox" && target.type !== "file";
}

/** @param {string[]} keys */
function helpText(keys) {
  const isFour = keys.length === 4;
  const names = isFour ? [`${keys[0].slice(0, keys[0].indexOf("Arrow"))}arrows`] : keys;
  return names.map((name) => name.replace("ArrowDown", "↓").replace("ArrowUp", "↑").replace("ArrowRight", "→").replace("ArrowLeft", "←")).join(" / ");
}
