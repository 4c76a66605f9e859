/** A list of findings at the pointer, filtered by typing. */

import { make, setAttributes } from "./dom.js";
import { colourOf } from "./palette.js";

/** @import {App} from "./app.js" */

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/** The finding that the reader picks, or null after Escape or a click elsewhere. @param {App} app
 * @param {number} x @param {number} y  CSS pixels of the page @returns {Promise<string|null>} */
export function pickFinding(app, x, y) {
  return new Promise((resolve) => new Picker(app.model?.findings ?? [], resolve).open(x, y));
}

class Picker {
  #current = 0;

  /** @param {string[]} findings @param {(finding: string|null) => void} done */
  constructor(findings, done) {
    this.findings = findings;
    this.done = done;
    this.box = make("div", "picker");
    this.input = make("input", "", { type: "text", placeholder: "Type to filter", autocomplete: "off" });
    this.list = make("div", "options", { id: "picker-list" });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Findings");
    setAttributes(this.input, {
      "aria-label": "Finding of the box", role: "combobox", "aria-controls": "picker-list", "aria-expanded": true,
    });
    this.input.addEventListener("input", () => this.#show(0));
    this.input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#key(event));
    this.box.append(this.input, this.list);
  }

  /** @param {number} x @param {number} y */
  open(x, y) {
    document.body.append(this.box);
    document.addEventListener("pointerdown", this.#outside, true);
    this.#show(0);
    this.box.style.left = `${Math.max(4, Math.min(x, innerWidth - this.box.offsetWidth - 8))}px`;
    this.box.style.top = `${Math.max(4, Math.min(y, innerHeight - this.box.offsetHeight - 8))}px`;
    this.input.focus();
  }

  #outside = (/** @type {Event} */ event) => {
    if (!this.box.contains(event.target)) this.#close(null);
  };

  /** @param {string|null} finding */
  #close(finding) {
    document.removeEventListener("pointerdown", this.#outside, true);
    this.box.remove();
    this.done(finding);
  }

  get matching() {
    const text = this.input.value.trim().toLowerCase();
    return this.findings.filter((name) => name.toLowerCase().includes(text));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation();
    const names = this.matching;
    if (event.key === "Escape") this.#close(null);
    if (event.key === "Enter" && names.length) this.#close(names[this.#current]);
    const step = STEPS[/** @type {keyof STEPS} */ (event.key)];
    if (!step || !names.length) return;
    event.preventDefault();
    this.#show((this.#current + step + names.length) % names.length);
  }

  /** @param {number} current */
  #show(current) {
    this.#current = current;
    const options = this.matching.map((name, index) => this.#option(name, index === current));
    this.list.replaceChildren(...options);
    options[current]?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", options[current]?.id ?? "");
  }

  /** @param {string} name @param {boolean} isCurrent */
  #option(name, isCurrent) {
    const option = make("div", "option", { id: `pick-${this.findings.indexOf(name)}` });
    const swatch = make("span", "swatch");
    swatch.style.background = colourOf(name, this.findings);
    setAttributes(option, { role: "option", "aria-selected": isCurrent });
    option.append(swatch, name);
    option.addEventListener("click", () => this.#close(name));
    return option;
  }
}
