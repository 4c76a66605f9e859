/** Clicks and reading time, for the record of corrections, and the warning before unsaved ones are lost. */

/** @import {App} from "./app.js" */

const TICK_MS = 200;

/** @param {App} app */
export function countUse(app) {
  document.addEventListener("pointerdown", () => {
    app.clicks += 1;
    if (app.active) app.active.clicks += 1;
  }, true);
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    const reading = app.readyActive;
    if (reading && document.visibilityState === "visible") reading.seconds += (now - last) / 1000;
    last = now;
  }, TICK_MS);
  window.addEventListener("beforeunload", (event) => {
    if (app.isDirty) event.preventDefault();
  });
}
