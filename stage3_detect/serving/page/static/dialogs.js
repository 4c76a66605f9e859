/** The one dialog of the page: model card, keys, API key, questions. */

import { byId, make, setAttributes } from "./dom.js";
import { markdownBlocks } from "./markdown.js";

/** @import {Model} from "./types.js" */

/** Show a dialog; resolves to the value that a button or form closes it with, "" for Escape.
 * @param {string} title @param {HTMLElement[]} content @returns {Promise<string>} */
function openDialog(title, content) {
  const dialog = byId("dialog");
  if (dialog.open) dialog.close("");
  byId("dialog-title").textContent = title;
  byId("dialog-body").replaceChildren(...content);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

/** @param {string} value */
function closeDialog(value) {
  byId("dialog").close(value);
}

export function setUpDialog() {
  byId("dialog-close").addEventListener("click", () => closeDialog(""));
}

/** @param {string} textContent @param {string} value  what the dialog closes with @param {string} className */
function closeButton(textContent, value, className) {
  const button = make("button", className, { type: "button", textContent });
  button.addEventListener("click", () => closeDialog(value));
  return button;
}

/** @param {string} question @param {string} yes  label of the button that agrees @returns {Promise<boolean>} */
export async function ask(question, yes) {
  const buttons = make("div", "dialog-buttons");
  buttons.append(closeButton("Cancel", "", ""), closeButton(yes, "yes", "primary"));
  return (await openDialog("Please confirm", [make("p", "", { textContent: question }), buttons])) === "yes";
}

/** @param {boolean} wasRefused @returns {Promise<string|null>} */
export async function askForKey(wasRefused) {
  const form = make("form", "key-form", { method: "dialog" });
  const label = make("label", "field", { textContent: "API key" });
  const input = make("input", "", { id: "api-key", type: "password", autocomplete: "off", required: true, autofocus: true });
  label.append(input);
  form.append(label, make("button", "primary", { type: "submit", textContent: "Continue" }));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    closeDialog(input.value.trim());
  });
  const sentence = wasRefused ? "The service refused this key. Try another one." : "This service needs an API key.";
  const note = "The key is kept in this tab until you close it.";
  return (await openDialog("API key", [make("p", "", { textContent: `${sentence} ${note}` }), form])) || null;
}

/** @param {[string, string][][]} groups  keys and what they do */
export function showKeys(groups) {
  const tables = make("div", "key-tables");
  tables.append(...groups.filter((rows) => rows.length).map(keyTable));
  openDialog("Keyboard and mouse", [tables]);
}

/** @param {[string, string][]} rows */
function keyTable(rows) {
  const table = make("table", "keys");
  for (const [keys, about] of rows) {
    const row = make("tr", "");
    const name = make("th", "");
    setAttributes(name, { scope: "row" });
    name.append(...keys.split(" / ").flatMap((key, index) => [index ? " or " : "", make("kbd", "", { textContent: key })]));
    row.append(name, make("td", "", { textContent: about }));
    table.append(row);
  }
  return table;
}

/** @param {Model} model */
export function showCard(model) {
  const facts = make("table", "facts");
  for (const [name, value] of [
    ["Model", `${model.name} (${model.id})`], ["Format", model.format], ["Licence", model.licence],
    ["Heat maps", model.map_method || "not served"], ["Fingerprint", model.manifest_sha256],
  ]) facts.append(factRow(name, value));
  openDialog("Model card", [facts, thresholdTable(model), ...markdownBlocks(model.card)]);
}

/** @param {string} name @param {string} value */
function factRow(name, value) {
  const row = make("tr", "");
  row.append(make("th", "", { textContent: name }), make("td", "", { textContent: value }));
  return row;
}

/** @param {Model} model */
function thresholdTable(model) {
  const names = Object.keys(model.points);
  const table = make("table", "thresholds");
  const head = make("tr", "");
  head.append(...["Finding", "Parents", ...names.map((name) => `Score at ${name}`)].map((textContent) => make("th", "", { textContent })));
  table.append(head);
  for (const finding of model.findings) {
    const row = factRow(finding, (model.parents[finding] ?? []).join(", "));
    for (const name of names) {
      const score = model.points[name].scores[finding];
      row.append(make("td", "number", { textContent: typeof score === "number" ? score.toFixed(3) : "never shown" }));
    }
    table.append(row);
  }
  return table;
}
