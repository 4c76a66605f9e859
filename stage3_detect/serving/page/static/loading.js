/** Opens files: boxes first, then ground truth and heat maps in the background. */

import { newReading, startCorrections } from "./app.js";
import { fetchMaps, fetchReading, fetchTruth, ServiceError } from "./api.js";
import { counted, isolated } from "./dom.js";
import { fitView } from "./geometry.js";
import { heatMaps } from "./heat.js";
import { Picture } from "./picture.js";
import { matchModel, needModel } from "./model.js";
import { dismiss, notify } from "./notices.js";

/** @import {App} from "./app.js" */
/** @import {Reading} from "./types.js" */

export const MAX_IMAGES = 16;
const AT_ONCE = 2;
const MAX_TRIES = 5;
const MAX_WAIT_S = 60;
const MAX_NAMED = 8;
const READING = "Reading the image";

/** Replace the study on the page. @param {App} app @param {File[]} files */
export async function openFiles(app, files) {
  if (!files.length) return notify("unopened", "There is no file in what you dropped.");
  const sorted = files.toSorted((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  app.readings = sorted.slice(0, MAX_IMAGES).map(newReading);
  app.activeId = app.readings[0].id;
  Object.assign(app, { focus: null, selectedId: null, drawing: false, single: false, prior: null });
  app.emit("study");
  app.say(`Reading ${counted(app.readings.length, "image", "images")}.`);
  noteUnopened(sorted);
  await loadAll(app, app.readings);
}

/** @param {App} app @param {Reading} reading */
export async function retryReading(app, reading) {
  await loadAll(app, [reading]);
}

/** @param {App} app @param {Reading[]} readings */
async function loadAll(app, readings) {
  const queue = [...readings];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      if (app.readings.includes(next)) await load(app, next); // not if another study was opened meanwhile
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  noteUnreadable(app);
  for (const reading of readings) await loadMaps(app, reading);
}

/** @param {File[]} files  all that were given */
function noteUnopened(files) {
  const left = files.slice(MAX_IMAGES).map(({ name }) => name);
  if (!left.length) return dismiss("unopened");
  notify("unopened", `${MAX_IMAGES} of ${files.length} files are open. Not opened: ${listed(left)}.`);
}

/** Files that cannot be read, among others that can. @param {App} app */
function noteUnreadable(app) {
  const failed = app.readings.filter(({ status }) => status === "error").map(({ name }) => name);
  if (!failed.length || failed.length === app.readings.length) return dismiss("unreadable");
  notify("unreadable", `${failed.length} of ${counted(app.readings.length, "file", "files")} could not be read: ${listed(failed)}.`);
}

/** @param {string[]} names */
function listed(names) {
  const more = names.length - MAX_NAMED;
  return names.slice(0, MAX_NAMED).map(isolated).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** @param {App} app @param {Reading} reading */
async function load(app, reading) {
  const clicksBefore = app.clicks;
  try {
    show(app, reading, { status: "loading", message: READING, canRetry: false });
    const wait = (/** @type {number} */ seconds) => countDown(app, reading, seconds);
    await withRetries(() => needModel(app), wait);
    const { header, size, greys } = await withRetries(() => ownReading(app, reading.file), wait);
    fill(reading, header);
    reading.picture = new Picture(size, greys);
    if (app.correcting) startCorrections(reading);
    app.emit("study", reading);
    app.emit("marks");
    preferReadable(app);
    reading.clicksToBoxes = app.clicks - clicksBefore;
    measureWhenPainted("raybox:drop-to-boxes", app.droppedAt);
    if (reading.id === app.activeId) app.say(""); // the panel has the result
    await loadTruth(app, reading);
  } catch (error) {
    fail(app, reading, error);
  }
}

/** A reading by the model that the page describes. @param {App} app @param {File} file */
async function ownReading(app, file) {
  const answer = await fetchReading(file);
  await matchModel(app, answer.header.model);
  return answer;
}

/** Heat maps by the model that the page describes. @param {App} app @param {File} file */
async function ownMaps(app, file) {
  const answer = await fetchMaps(file);
  await matchModel(app, answer.model);
  return heatMaps(answer);
}

/** Read the images again that a former model of the service has read. @param {App} app */
export async function readAgain(app) {
  const former = app.readings.filter(({ status, modelSha256 }) => status === "ready" && modelSha256 !== app.model?.manifest_sha256);
  app.prior = null;
  for (const reading of former) {
    show(app, reading, { status: "loading", message: READING, corrections: null, isWhole: false, maps: null, mapsMessage: "" });
  }
  await loadAll(app, former);
}

/** For the benchmark: the time from `start` to the end of the frame that shows the boxes.
 * @param {string} name @param {number} start */
function measureWhenPainted(name, start) {
  requestAnimationFrame(() => setTimeout(() => performance.measure(name, { start, end: performance.now() })));
}

/** @param {Reading} reading @param {any} header */
function fill(reading, header) {
  const { image, model } = header;
  const size = { width: image.width_px, height: image.height_px };
  const { abstained } = image.quality;
  Object.assign(reading, {
    status: "ready", message: "", size, view: fitView(size), sha256: header.image_sha256,
    modelSha256: model.manifest_sha256, quality: image.quality,
    detections: abstained ? [] : image.detections, withheld: abstained ? image.detections : [],
  });
}

/** Try again while the service is busy. @template T @param {() => Promise<T>} work
 * @param {(seconds: number) => Promise<void>} wait @returns {Promise<T>} */
async function withRetries(work, wait) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      const seconds = error instanceof ServiceError && error.status ? error.retryAfter : null;
      if (seconds === null || tries === MAX_TRIES) throw error;
      await wait(Math.min(MAX_WAIT_S, Math.ceil(seconds)));
    }
  }
}

/** Say at the image when the next try comes. @param {App} app @param {Reading} reading @param {number} seconds */
async function countDown(app, reading, seconds) {
  for (let left = seconds; left > 0; left -= 1) {
    show(app, reading, { message: `The service is busy. Trying again in ${left} s.` });
    await pause(1);
  }
  show(app, reading, { message: READING });
}

/** @param {number} seconds @returns {Promise<void>} */
function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

/** @param {App} app @param {Reading} reading @param {unknown} error */
function fail(app, reading, error) {
  if (!(error instanceof ServiceError)) throw error;
  show(app, reading, { status: "error", message: error.message, canRetry: !app.model || isWorthRetrying(error) });
  preferReadable(app);
  const isActive = reading.id === app.activeId; // then the panel says it
  app.say(isActive ? "" : `${isolated(reading.name)}: ${error.message}`);
}

/** Where the active image cannot be read, the first that can, or may yet, becomes active. @param {App} app */
function preferReadable(app) {
  const other = app.readings.find((reading) => reading.status !== "error");
  if (app.active?.status === "error" && other) app.activate(other.id);
}

/** @param {ServiceError} error */
function isWorthRetrying(error) {
  return error.retryAfter !== null || error.status === 401 || error.status >= 500;
}

/** @param {App} app @param {Reading} reading @param {Partial<Reading>} change */
function show(app, reading, change) {
  Object.assign(reading, change);
  app.emit("study", reading);
}

/** @param {App} app @param {Reading} reading */
async function loadTruth(app, reading) {
  try {
    reading.truth = await fetchTruth(reading.name);
    if (reading.truth.length) app.emit("marks");
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    app.say(`${isolated(reading.name)}: no ground truth. ${error.message}`);
  }
}

/** @param {App} app @param {Reading} reading */
async function loadMaps(app, reading) {
  if (!app.model?.map_method || reading.status !== "ready" || !app.readings.includes(reading)) return;
  try {
    reading.maps = await withRetries(() => ownMaps(app, reading.file), pause);
    app.emit("marks");
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    reading.mapsMessage = error.message;
    app.emit("marks");
    app.say(`${isolated(reading.name)}: no heat map. ${error.message}`);
  }
}

/** @type {File|null} */
let latestPrior = null;

/** Boxes of an earlier image of the patient. @param {App} app @param {File} file */
export async function openPrior(app, file) {
  const study = app.readings;
  latestPrior = file;
  try {
    await needModel(app);
    const { header } = await ownReading(app, file);
    if (app.readings !== study || latestPrior !== file) return; // of another patient, or replaced meanwhile
    const size = { width: header.image.width_px, height: header.image.height_px };
    const { quality, detections } = header.image;
    app.prior = { name: file.name, size, detections: quality.abstained ? [] : detections };
    if (quality.abstained) app.say(`Prior image ${isolated(file.name)}: no boxes. ${quality.reasons.join(" ")}`);
    app.emit("marks");
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    app.say(`Prior image ${isolated(file.name)}: ${error.message}`);
  }
}
