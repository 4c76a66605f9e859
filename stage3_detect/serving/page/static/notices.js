/** Messages above the images that stay until they are closed or no longer true. */

import { byId, make } from "./dom.js";

/** Show a message in place of the one with the same key. @param {string} key @param {string} text
 * @param {{label: string, run: () => void}} [action]  a button next to the text */
export function notify(key, text, action) {
  dismiss(key);
  const notice = make("div", "warning");
  notice.dataset.key = key;
  notice.append(make("p", "", { textContent: text }));
  if (action) notice.append(button(action.label, action.run));
  notice.append(button("Close", () => dismiss(key)));
  byId("notices").append(notice);
}

/** @param {string} key */
export function dismiss(key) {
  byId("notices").querySelector(`[data-key="${key}"]`)?.remove();
}

/** @param {string} textContent @param {() => void} run */
function button(textContent, run) {
  const made = make("button", "", { type: "button", textContent });
  made.addEventListener("click", run);
  return made;
}
