/** Calls of the service. Every failure is a `ServiceError` with one sentence for the reader. */

/** @import {Model, Window} from "./types.js" */

const KEY = "raybox-api-key";
const HEADER_BYTES = 4;

/** A failure that the page shows. `retryAfter`: seconds until a new try makes sense, null where none does. */
export class ServiceError extends Error {
  /** @param {string} message @param {number} status @param {number|null} [retryAfter] */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Asks the reader for the key; replaced by the page. @type {{ask: (wrong: boolean) => Promise<string|null>}} */
export const keyPrompt = { ask: async () => null };

/** @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new ServiceError("The service does not answer. Check that it runs and try again.", 0, 5);
  }
  if (answer.status === 401 && (await newKey(key))) return call(path, options);
  if (!answer.ok) throw await errorOf(answer);
  return answer;
}

/** @type {Promise<string|null>|null} */
let asking = null;

/** Ask once for all waiting calls; true if there is another key than the refused one. @param {string|null} refused */
async function newKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return true;
  asking ??= keyPrompt.ask(refused !== null);
  const key = await asking;
  asking = null;
  if (key) sessionStorage.setItem(KEY, key);
  return Boolean(key);
}

/** @param {Response} answer @returns {Promise<ServiceError>} */
async function errorOf(answer) {
  let sentence = "";
  try {
    sentence = (await answer.json()).error;
  } catch { /* a proxy's page instead of JSON */ }
  const busy = answer.status === 429 || answer.status === 503;
  const seconds = busy ? Number(answer.headers.get("Retry-After")) || 2 : null;
  return new ServiceError(sentence || `The service answered with status ${answer.status}.`, answer.status, seconds);
}

const NO_ANSWER = "The answer does not come from this service. Check the proxy between it and this page.";

/** @template T @param {() => T|Promise<T>} read  throws if the answer is damaged @returns {Promise<T>} */
async function understood(read) {
  try {
    return await read();
  } catch (error) {
    throw error instanceof ServiceError ? error : new ServiceError(NO_ANSWER, 0, 5);
  }
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function callJson(path, options) {
  const answer = await call(path, options);
  return understood(() => answer.json());
}

const GONE = "The browser can no longer read this file: it was changed, moved or deleted. Open it again.";

/** @param {string} path @param {File} file @returns {Promise<Response>} */
async function upload(path, file) {
  const body = new FormData();
  body.append("file", file, file.name);
  try {
    return await call(path, { method: "POST", body });
  } catch (error) { // the browser does not say which side failed
    const isLost = error instanceof ServiceError && error.status === 0;
    throw isLost && !(await isReadable(file)) ? new ServiceError(GONE, 0) : error;
  }
}

/** @param {File} file */
async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** @returns {Promise<Model>} */
export function fetchModel() {
  return callJson("v1/model");
}

/** @returns {Promise<{name: string, has_truth: boolean}[]>} */
export async function fetchExamples() {
  return (await callJson("v1/examples")).examples;
}

/** @param {string} name @returns {Promise<File>} */
export async function fetchExample(name) {
  const answer = await call(`v1/examples/${encodeURIComponent(name)}`);
  return new File([await understood(() => answer.blob())], name);
}

/** True boxes of an image, by its file name. @param {string} name */
export async function fetchTruth(name) {
  return (await callJson(`v1/truth?name=${encodeURIComponent(name)}`)).boxes;
}

/** Boxes and pixels of one image. @param {File} file */
export async function fetchReading(file) {
  const answer = await upload("page/readings", file);
  return understood(async () => parseReading(await answer.arrayBuffer()));
}

/** Heat maps of one image. @param {File} file */
export async function fetchMaps(file) {
  const answer = await upload("v1/maps", file);
  return understood(() => answer.json());
}

/** @param {object} record @returns {Promise<{id: string}>} */
export async function postCorrections(record) {
  const headers = { "Content-Type": "application/json" };
  return callJson("v1/corrections", { method: "POST", headers, body: JSON.stringify(record) });
}

/** Header (JSON) and grey values of the answer of /page/readings. @param {ArrayBuffer} buffer */
export function parseReading(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER_BYTES, length)));
  if (header.image.error) throw new ServiceError(header.image.error, 422);
  const { width_px: width, height_px: height, dtype } = header.picture;
  const start = HEADER_BYTES + length;
  const greys = dtype === "uint16"
    ? new Uint16Array(buffer, start, width * height)
    : new Uint8Array(buffer, start, width * height);
  return { header, size: { width, height }, greys };
}
