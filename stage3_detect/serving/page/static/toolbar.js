/** Buttons of the top bar. */

import { byId } from "./dom.js";

/** @import {App} from "./app.js" */

/** @param {{app: App}} parts */
export function setUpToolbar({ app }) {
  const actions = {
    window: () => app.toggleTool(),
    invert: () => app.show({ inverted: !app.active?.inverted }),
    reset: () => app.resetView(),
    hide: () => app.toggle("hidden"),
    heat: () => app.toggle("heat"),
    single: () => app.toggle("single"),
    correct: () => app.setCorrecting(!app.correcting),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  for (const topic of /** @type {const} */ (["study", "active", "marks", "view"])) app.on(topic, () => draw(app));
}

/** @param {App} app */
function draw(app) {
  const pressed = {
    window: app.tool === "window", invert: app.active?.inverted ?? false, hide: app.hidden, heat: app.heat,
    single: app.single, correct: app.correcting,
  };
  for (const [id, isPressed] of Object.entries(pressed)) byId(id).setAttribute("aria-pressed", String(isPressed));
  byId("correct").classList.toggle("unsaved", app.isDirty);
  byId("correct").title = `Correct the boxes (E)${app.isDirty ? ": decisions are not saved" : ""}`;
  byId("single").hidden = app.readings.length < 2;
  document.body.classList.toggle("correcting", app.correcting);
  document.body.classList.toggle("window-tool", app.tool === "window");
  byId("legend").replaceChildren(...legend(app));
}

/** What the line styles mean, as far as they are on the page. @param {App} app */
function legend(app) {
  const kinds = [];
  if (app.readings.some((reading) => reading.truth.length)) kinds.push("dashed: ground truth");
  if (app.prior) kinds.push("dotted: prior image");
  return kinds.map((text) => {
    const span = document.createElement("span");
    span.textContent = text;
    return span;
  });
}
