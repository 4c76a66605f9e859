/** Which boxes are shown: by an operating point of the model, or by a threshold that the reader sets. */

/** @import {Detection, Filter, Model} from "./types.js" */

/** Calibrated confidence, or the score where the run has no calibration. @param {Detection} found */
export function valueOf(found) {
  return found.confidence ?? found.score;
}

/** @param {Detection} found @param {Filter} filter @param {Model} model @returns {boolean} */
export function isShown(found, filter, model) {
  if (filter.kind === "threshold") return valueOf(found) >= filter.value;
  const least = model.points[filter.name]?.scores[found.finding];
  return typeof least === "number" && found.score >= least;
}

/** The filter before the reader changes it. A model without operating points shows boxes from 50 %.
 * @param {Model} model @returns {Filter} */
export function defaultFilter(model) {
  const name = model.default_point;
  return name && model.points[name] ? { kind: "point", name } : { kind: "threshold", value: 0.5 };
}

/** The confidence from which boxes are shown; null where each finding has its own.
 * @param {{filter: Filter, model: Model|null}} app @returns {number|null} */
export function limitOf({ filter, model }) {
  return filter.kind === "threshold" ? filter.value : model?.points[filter.name]?.confidence ?? null;
}

/** A value below the limit is rounded down where it would read as if it reached it; a small one must not read as none.
 * @param {number} share  in [0, 1] @param {number|null} [limit] */
export function percent(share, limit = null) {
  if (share < 0.01) return "<1 %";
  const rounded = Math.round(100 * share);
  const isMisleading = limit !== null && share < limit && rounded >= 100 * limit - 1e-9;
  return `${isMisleading ? Math.floor(100 * share) : rounded} %`;
}

/** Why a finding has no box at the chosen point, whatever the image; "" where it may have one.
 * @param {string} finding @param {Filter} filter @param {Model} model */
export function caveatOf(finding, filter, model) {
  if (filter.kind !== "point") return "";
  const point = model.points[filter.name];
  if (typeof point?.scores[finding] !== "number") return "never shown";
  return point.measured?.never_found.includes(finding) ? "none found on test images" : "";
}

/** With one decimal, rounded down. @param {number} limit  in [0, 1] */
export function limitText(limit) {
  return `${Math.floor(1000 * limit + 1e-6) / 10}\u00a0%`;
}

/**
 * One row per finding, parents above their children. A parent that the model does not detect itself is a heading.
 * @typedef {{finding: string, depth: number, isHeading: boolean}} Row
 * @param {Model} model @returns {Row[]}
 */
export function findingRows(model) {
  /** @type {Map<string, string[]>} */
  const children = new Map([["", []]]);
  for (const finding of model.findings) addPath([finding, ...(model.parents[finding] ?? [])], children);
  /** @type {Row[]} */
  const rows = [];
  const visit = (/** @type {string} */ parent, /** @type {number} */ depth) => {
    for (const finding of children.get(parent) ?? []) {
      rows.push({ finding, depth, isHeading: !model.findings.includes(finding) });
      visit(finding, depth + 1);
    }
  };
  visit("", 0);
  return rows;
}

/** @param {string[]} path  a finding and its ancestors, nearest first @param {Map<string, string[]>} children */
function addPath(path, children) {
  path.forEach((finding, index) => {
    const parent = path[index + 1] ?? "";
    const siblings = children.get(parent) ?? [];
    if (!siblings.includes(finding)) children.set(parent, [...siblings, finding]);
  });
}

/** The highest value of each finding in one image. @param {Detection[]} detections @returns {Map<string, number>} */
export function bestValues(detections) {
  const best = new Map();
  for (const found of detections) best.set(found.finding, Math.max(best.get(found.finding) ?? 0, valueOf(found)));
  return best;
}
