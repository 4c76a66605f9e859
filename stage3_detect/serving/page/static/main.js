/** Entry of the page: puts the parts together. */

import { fetchExample, fetchExamples, keyPrompt, ServiceError } from "./api.js";
import { App } from "./app.js";
import { CorrectPanel } from "./correct_panel.js";
import { ask, askForKey, setUpDialog, showCard, showKeys } from "./dialogs.js";
import { byId, make } from "./dom.js";
import { acceptDrops } from "./drop.js";
import { FindingList } from "./findings.js";
import { bindKeys } from "./keys.js";
import { openFiles, openPrior, readAgain, retryReading } from "./loading.js";
import { needModel } from "./model.js";
import { dismiss, notify } from "./notices.js";
import { setUpPanel } from "./panel.js";
import { setUpPrior } from "./prior.js";
import { Stage } from "./stage.js";
import { setUpToolbar } from "./toolbar.js";
import { countUse } from "./use.js";

/** @import {Model} from "./types.js" */

const MAX_EXAMPLES = 24;
const MAX_BUTTONS = 8;

export const app = new App();

/** Number of the last choice of images. An example or a folder that comes later than the next choice is left out. */
let chosen = 0;

/** Open files, unless the reader keeps corrections that are not saved. @param {File[]} files
 * @param {number} [choice]  that they belong to */
async function open(files, choice = chosen) {
  if (choice !== chosen) return;
  const question = "Corrections of this study are not saved. Open the new images and lose them?";
  if (files.length && app.isDirty && !(await ask(question, "Open and lose them"))) return;
  byId("welcome").hidden = files.length > 0 || app.readings.length > 0;
  await openFiles(app, files);
}

/** @param {string} name */
async function openExample(name) {
  const choice = started();
  try {
    await open([await fetchExample(name)], choice);
  } catch (error) {
    sayError(error);
  }
}

/** Note when the reader chose images; returns the number of the choice. */
function started() {
  app.droppedAt = performance.now();
  chosen += 1;
  return chosen;
}

/** @param {unknown} error */
function sayError(error) {
  if (!(error instanceof ServiceError)) throw error;
  app.say(error.message);
}

function setUpOpening() {
  acceptDrops(document.body, open, started);
  const input = byId("files");
  byId("open").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    started();
    open([...input.files]);
    input.value = "";
  });
  const select = byId("examples");
  select.addEventListener("change", () => {
    if (select.value) openExample(select.value);
  });
}

async function offerExamples() {
  const examples = await fetchExamples();
  byId("examples-box").hidden = !examples.length;
  const offered = examples.slice(0, MAX_EXAMPLES);
  byId("examples").replaceChildren(make("option", "", { value: "", textContent: "Examples" }), ...offered.map(({ name }, index) =>
    make("option", "", { value: name, textContent: `Example ${index + 1}: ${name}` })));
  byId("welcome-examples").replaceChildren(...offered.slice(0, MAX_BUTTONS).map(({ name }, index) => {
    const button = make("button", "", { type: "button", textContent: `Example ${index + 1}`, title: name });
    button.addEventListener("click", () => openExample(name));
    return button;
  }));
}

/** Without the description the page offers to ask again, and asks before each image. */
async function loadModel() {
  try {
    await needModel(app);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    notify("model", error.message, { label: "Try again", run: loadModel });
  }
}

/** What depends on the service's settings. @param {Model} model */
function showModel(model) {
  dismiss("model");
  byId("synthetic").hidden = !model.synthetic;
  byId("correct").hidden = !model.corrections;
  if (app.correcting && !model.corrections) app.setCorrecting(false);
  byId("heat").hidden = !model.map_method;
  byId("privacy").textContent = model.images_kept
    ? "Images are analysed by this server. Images that you correct and save are stored."
    : "Images are analysed by this server and are not stored.";
}

function setUp() {
  setUpDialog();
  keyPrompt.ask = askForKey;
  const stage = new Stage(app, byId("stage"), (reading) => retryReading(app, reading));
  const list = new FindingList(app, byId("findings"));
  const panel = new CorrectPanel(app, byId("corrections"));
  const parts = { app, stage, list, panel, open: () => byId("files").click(), help: () => showKeys(rows()) };
  const rows = bindKeys(parts);
  setUpPanel(app);
  setUpToolbar(parts);
  setUpPrior(app, (file) => openPrior(app, file));
  setUpOpening();
  countUse(app);
  byId("card").addEventListener("click", () => app.model && showCard(app.model));
  byId("help").addEventListener("click", parts.help);
  for (const topic of /** @type {const} */ (["status", "active", "marks"])) {
    app.on(topic, () => { byId("status").textContent = app.message(); });
  }
  app.on("model", () => {
    if (app.model) showModel(app.model);
    void readAgain(app);
    offerExamples().catch(sayError);
  });
  loadModel();
}

setUp();
