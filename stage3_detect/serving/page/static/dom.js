/** Elements of the page. */

/** @param {string} name @param {string} className @param {Record<string, any>} [more]  properties @returns {any} */
export function make(name, className, more = {}) {
  return Object.assign(document.createElement(name), { className, ...more });
}

/** The element with this id in index.html. @param {string} id @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** @param {Element} element @param {Record<string, string|number|boolean>} attributes */
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
}

/** A file name inside a sentence, whose characters from right to left do not turn the rest of it around.
 * @param {string} name */
export function isolated(name) {
  return `\u2068${name}\u2069`;
}

/** "1 box", "2 boxes". @param {number} count @param {string} one @param {string} many */
export function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}
