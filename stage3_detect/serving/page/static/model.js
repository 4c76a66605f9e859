/** The model's description. Without it the page cannot know which boxes are shown, so it shows no results either. */

import { fetchModel, ServiceError } from "./api.js";

/** @import {App} from "./app.js" */

export const NO_MODEL = "The model's description could not be loaded.";

/** @type {Promise<void>|null} */
let asking = null;

/** Fetch the description unless it is there. Rejects with a ServiceError. @param {App} app @returns {Promise<void>} */
export function needModel(app) {
  if (app.model) return Promise.resolve();
  asking ??= describe(app).finally(() => { asking = null; });
  return asking;
}

/** @param {App} app */
async function describe(app) {
  try {
    app.setModel(await fetchModel());
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    throw new ServiceError(`${NO_MODEL} ${error.message}`, error.status, error.retryAfter);
  }
}
