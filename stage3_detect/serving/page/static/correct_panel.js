/** The corrections of the active image: actions, reader, consent, saving. */

import { startCorrections } from "./app.js";
import { postCorrections, ServiceError } from "./api.js";
import { byId, counted, isolated, make } from "./dom.js";
import { moveBox, tidyBox } from "./geometry.js";
import { modelMarks, undecided } from "./marks.js";
import { pickFinding } from "./picker.js";

/** @import {App} from "./app.js" */
/** @import {Corrections} from "./corrections.js" */
/** @import {Reading} from "./types.js" */

const READER = "raybox-reader";
const CONSENT = "I agree that this server stores my corrections with the file's name, my reader id, my reading time and "
  + "number of clicks";
const WHOLE = "I read the whole image: findings without a box are absent.";
const READER_PATTERN = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,31}";

export class CorrectPanel {
  /** @param {App} app @param {HTMLElement} box */
  constructor(app, box) {
    this.app = app;
    this.box = box;
    this.isSaving = false;
    this.#build();
    for (const topic of /** @type {const} */ (["study", "active", "marks"])) app.on(topic, () => this.refresh());
  }

  #build() {
    const head = make("h2", "", { textContent: "Corrections" });
    this.state = make("p", "note", { id: "correct-state" });
    this.state.setAttribute("role", "status");
    this.named = make("p", "note", { id: "selected" });
    const actions = make("div", "actions");
    actions.append(...this.#actionButtons());
    this.reader = make("input", "", { id: "reader", autocomplete: "off", maxLength: 32, pattern: READER_PATTERN });
    this.reader.value = sessionStorage.getItem(READER) ?? "";
    this.reader.placeholder = "letters, digits, . _ -";
    this.consent = make("input", "", { id: "consent", type: "checkbox" });
    this.agreement = labelled(CONSENT, this.consent);
    this.app.on("model", () => {
      const image = this.app.model?.images_kept ? ", and the image." : "; the image itself is not stored.";
      this.agreement.replaceChildren(this.consent, CONSENT + image);
    });
    this.whole = make("input", "", { id: "whole", type: "checkbox" });
    this.save = make("button", "primary", { id: "save", type: "button", textContent: "Save", title: "Save (Ctrl+S)" });
    this.save.addEventListener("click", () => this.submit());
    this.whole.addEventListener("input", () => {
      if (this.current) this.current.reading.isWhole = this.whole.checked;
    });
    for (const input of [this.reader, this.consent, this.whole]) input.addEventListener("input", () => this.refresh());
    const line = make("div", "save-line");
    line.append(labelled("Reader id", this.reader), this.save);
    this.box.replaceChildren(
      head, this.named, actions, labelled(WHOLE, this.whole), this.agreement, line, this.state);
  }

  #actionButtons() {
    const table = /** @type {const} */ ([
      ["accept", "Accept", "Accept the selected box (A)"], ["reject", "Reject", "Reject the selected box (X)"],
      ["relabel", "Relabel", "Pick another finding (L)"], ["draw", "Draw box", "Draw a box (D)"],
      ["acceptAll", "Accept all", "Accept all boxes not decided yet (Shift+A)"], ["undo", "Undo", "Undo (Ctrl+Z)"],
    ]);
    return table.map(([action, textContent, title]) => {
      const button = make("button", "", { id: `correct-${action}`, type: "button", textContent, title });
      button.addEventListener("click", () => this[action]());
      return button;
    });
  }

  /** The reading that can be corrected now, with its corrections. */
  get current() {
    const reading = this.app.correcting ? this.app.readyActive : undefined;
    return reading && { reading, corrections: startCorrections(reading) };
  }

  get selected() {
    return this.current?.corrections.find(this.app.selectedId);
  }

  accept() {
    this.#change((corrections, id) => corrections.accept([id]));
  }

  reject() {
    this.#change((corrections, id) => corrections.reject(id));
  }

  /** Move the selected box, or its lower right corner. @param {number} dx @param {number} dy  image pixels
   * @param {boolean} isCorner */
  nudge(dx, dy, isCorner) {
    const { selected } = this;
    if (!selected) return;
    const [x1, y1, x2, y2] = selected.xyxy;
    const box = isCorner ? tidyBox([x1, y1, x2 + dx, y2 + dy], this.app.active?.size ?? { width: 0, height: 0 })
      : moveBox(selected.xyxy, this.app.active?.size ?? { width: 0, height: 0 }, dx, dy);
    this.#change((corrections, id) => corrections.move(id, box));
  }

  acceptAll() {
    const { current } = this;
    current?.corrections.accept(undecided(this.app, current.reading));
    this.app.emit("marks");
  }

  undo() {
    this.current?.corrections.undo();
    this.app.emit("marks");
  }

  draw() {
    if (this.current) this.app.toggle("drawing");
  }

  async relabel() {
    const { selected, current } = this;
    if (!selected || !current) return;
    const rect = byId("correct-relabel").getBoundingClientRect();
    const finding = await pickFinding(this.app, rect.left, rect.top);
    if (finding) current.corrections.relabel(selected.id, finding);
    this.app.emit("marks");
  }

  /** Select the next or previous box. @param {number} step */
  selectNext(step) {
    const { current } = this;
    if (!current) return;
    const ids = modelMarks(this.app, current.reading).map((mark) => mark.id);
    if (!ids.length) return;
    const at = ids.indexOf(this.app.selectedId ?? "");
    this.app.select(at < 0 ? ids[step > 0 ? 0 : ids.length - 1] : ids[(at + step + ids.length) % ids.length]);
  }

  /** @param {(corrections: Corrections, id: string) => void} change */
  #change(change) {
    const { selected, current } = this;
    if (!selected || !current) return;
    change(current.corrections, selected.id);
    this.app.emit("marks");
  }

  refresh() {
    this.box.hidden = !this.app.correcting;
    const { current, selected } = this;
    for (const action of ["accept", "reject", "relabel"]) byId(`correct-${action}`).disabled = !selected;
    byId("correct-draw").disabled = !current;
    byId("correct-draw").setAttribute("aria-pressed", String(this.app.drawing));
    byId("correct-undo").disabled = !current?.corrections.canUndo;
    byId("correct-acceptAll").disabled = !current || !undecided(this.app, current.reading).length;
    this.named.textContent = this.hint();
    this.whole.checked = current?.reading.isWhole ?? false;
    this.whole.disabled = !current;
    const problem = this.problem();
    this.save.disabled = problem !== null;
    this.state.dataset.kind = current?.corrections.isDirty ? "dirty" : current?.corrections.savedId ? "saved" : "";
    const before = current && !current.corrections.savedId ? this.app.saved.get(savedKey(current.reading, this.reader.value)) : "";
    this.state.textContent = before
      ? `You saved a reading of this image (${before}). Saving again replaces it. ${stateText(current?.corrections, problem)}`
      : stateText(current?.corrections, problem);
  }

  /** What the pointer and the buttons act on. */
  hint() {
    if (this.app.drawing) return "Drag on the image to draw a box.";
    return this.selected ? `Selected: ${this.selected.finding}` : "Select a box: click it, or press the down key.";
  }

  /** Why saving is not possible yet, or null. @returns {string|null} */
  problem() {
    const { current } = this;
    if (!current) return "Open an image first.";
    const open = undecided(this.app, current.reading).length;
    if (current.reading.isWhole && open) return `${counted(open, "box is", "boxes are")} not decided yet.`;
    if (!this.whole.checked && !current.corrections.records().length) return "Nothing is decided yet.";
    if (!this.reader.checkValidity()) return "The reader id needs 1 to 32 letters, digits, . _ or -, without spaces; the first is a letter or digit.";
    const missing = [...(this.consent.checked ? [] : ["tick the agreement"]), ...(this.reader.value ? [] : ["enter a reader id"])];
    if (missing.length) return `To save, ${missing.join(" and ")}.`;
    const { isDirty, savedId, savedAs } = current.corrections;
    return savedId && !isDirty && savedAs === this.signature ? "Nothing changed since." : null;
  }

  /** What is saved with the boxes. */
  get signature() {
    return `${this.reader.value} ${this.current?.reading.isWhole}`;
  }

  async submit() {
    const { current } = this;
    if (!current || this.problem()) return;
    if (this.isSaving) return; // a second press of the key
    const { reading, corrections } = current;
    const [{ edits }, signature] = [corrections, this.signature];
    this.isSaving = true;
    sessionStorage.setItem(READER, this.reader.value);
    try {
      const { id } = await postCorrections(this.#record(reading, corrections));
      corrections.markSaved(edits, signature, id);
      this.app.saved.set(savedKey(reading, this.reader.value), id);
      this.app.say(`${isolated(reading.name)}: corrections saved as ${id}.`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.app.say(`Not saved: ${error.message}`);
    } finally {
      this.isSaving = false;
    }
    this.app.emit("marks");
  }

  /** @param {Reading} reading @param {Corrections} corrections */
  #record(reading, corrections) {
    return {
      image_sha256: reading.sha256, name: reading.name, width_px: reading.size.width, height_px: reading.size.height,
      reader: this.reader.value, consent: this.consent.checked, complete: reading.isWhole,
      seconds: Math.round(10 * reading.seconds) / 10, clicks: reading.clicks, model_sha256: reading.modelSha256,
      boxes: corrections.records(),
    };
  }
}

/** @param {Corrections|undefined} corrections @param {string|null} problem */
function stateText(corrections, problem) {
  if (corrections?.savedId && !corrections.isDirty) return `Saved as ${corrections.savedId}.`;
  if (problem === null) return corrections?.isDirty ? "Not saved yet." : "Ready to save.";
  return `${corrections?.isDirty ? "Not saved. " : ""}${problem}`;
}

/** @param {string} text @param {HTMLInputElement} input */
function labelled(text, input) {
  const label = make("label", input.type === "checkbox" ? "check" : "field");
  label.append(...(input.type === "checkbox" ? [input, text] : [text, input]));
  return label;
}

/** A later reading replaces an earlier one of the same image by the same reader. @param {Reading} reading
 * @param {string} reader */
function savedKey(reading, reader) {
  return `${reader} ${reading.sha256}`;
}
