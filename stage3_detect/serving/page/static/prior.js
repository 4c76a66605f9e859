/** The second, smaller drop target: an earlier image of the patient. */

import { byId, isolated } from "./dom.js";
import { acceptDrops } from "./drop.js";

/** @import {App} from "./app.js" */

const EMPTY = "Drop an earlier image of the patient here to see its boxes dotted.";

/** @param {App} app @param {(file: File) => void} open */
export function setUpPrior(app, open) {
  const input = byId("prior-file");
  const take = (/** @type {File[]} */ files) => files.length && open(files[0]);
  acceptDrops(byId("prior"), take, () => 0);
  byId("prior-open").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  byId("prior-clear").addEventListener("click", () => {
    app.prior = null;
    app.emit("marks");
  });
  for (const topic of /** @type {const} */ (["study", "marks"])) app.on(topic, () => draw(app));
}

/** @param {App} app */
function draw(app) {
  const { prior } = app;
  byId("prior-clear").hidden = !prior;
  byId("prior-note").title = prior?.name ?? "";
  byId("prior-note").textContent = prior
    ? `${isolated(prior.name)}: dotted boxes, only scaled to this image's size.` : EMPTY;
}
