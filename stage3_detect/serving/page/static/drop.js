/** Files from a drop, folders included. */

/** @param {DataTransfer} transfer @returns {Promise<File[]>} */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files]; // without a wait
  const lists = await Promise.all(entries.map((entry, index) => (entry ? filesOf(entry) : [items[index].getAsFile()])));
  return lists.flat().filter((file) => file !== null);
}

/** @param {any} entry  FileSystemEntry @returns {Promise<File[]>} */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  /** @type {File[]} */
  const files = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return files;
    for (const child of part) files.push(...(await filesOf(child)));
  }
}

/** Let an element take files. A target inside another one takes them alone.
 * @param {HTMLElement} box @param {(files: File[], choice: number) => void} take
 * @param {() => number} started  before files are read; returns the number of this drop */
export function acceptDrops(box, take, started) {
  let depth = 0;
  const mark = (/** @type {number} */ now) => {
    depth = now;
    box.classList.toggle("dropping", depth > 0);
  };
  box.addEventListener("dragenter", () => mark(depth + 1));
  box.addEventListener("dragleave", () => mark(depth - 1));
  box.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", () => mark(0), true);
  box.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    const choice = started();
    if (event.dataTransfer) take(await droppedFiles(event.dataTransfer), choice);
  });
}
