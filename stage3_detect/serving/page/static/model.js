/** The model's description. Without it the page cannot know which boxes are shown, so it shows no results either. */

import { fetchModel, ServiceError } from "./api.js";
import { notify } from "./notices.js";

/** @import {App} from "./app.js" */
/** @import {Model} from "./types.js" */

export const NO_MODEL = "The model's description could not be loaded.";

/** @type {Promise<void>|null} */
let asking = null;

/** Fetch the description unless it is there. Rejects with a ServiceError. @param {App} app @returns {Promise<void>} */
export function needModel(app) {
  return app.model ? Promise.resolve() : askOnce(app);
}

/** Fetch the description again where an answer is of another model, as after a restart of the service. Rejects with a
 * ServiceError, also while the service runs both. @param {App} app
 * @param {{manifest_sha256: string}} identity  the model of the answer */
export async function matchModel(app, identity) {
  const isSame = () => app.model?.manifest_sha256 === identity.manifest_sha256;
  if (isSame()) return;
  await askOnce(app);
  if (!isSame()) throw new ServiceError("The service is changing to another model.", 503, 2);
}

/** Calls that wait share one request. @param {App} app @returns {Promise<void>} */
function askOnce(app) {
  asking ??= describe(app).finally(() => { asking = null; });
  return asking;
}

/** @param {App} app */
async function describe(app) {
  try {
    const model = await fetchModel();
    const change = changeText(app, model);
    app.setModel(model);
    if (change) notify("model-changed", change);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    throw new ServiceError(`${NO_MODEL} ${error.message}`, error.status, error.retryAfter);
  }
}

/** What the reader must know of a change of the model; "" where there is none. @param {App} app @param {Model} model */
function changeText(app, model) {
  if (!app.model || app.model.manifest_sha256 === model.manifest_sha256) return "";
  const lost = app.isDirty ? " Corrections that were not saved are lost: they belong to boxes of the former model." : "";
  return `The service now runs another model: ${model.name}. Open images are read again.${lost}`;
}
