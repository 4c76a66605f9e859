/** Shows the Markdown of a model card: headings, paragraphs, quotes, lists, tables, code. Never as HTML source. */

import { make } from "./dom.js";

/** @param {string} text @returns {HTMLElement[]} */
export function markdownBlocks(text) {
  const lines = text.replaceAll("\r", "").split("\n");
  /** @type {HTMLElement[]} */
  const blocks = [];
  while (lines.length) {
    const rule = RULES.find(({ starts }) => starts.test(lines[0]));
    if (!lines[0].trim()) lines.shift();
    else if (rule) blocks.push(rule.take(lines));
    else blocks.push(paragraph(takeWhile(lines, (line) => line.trim() !== "" && !RULES.some(({ starts }) => starts.test(line)))));
  }
  return blocks;
}

const RULES = [
  { starts: /^#{1,6} /, take: (/** @type {string[]} */ lines) => heading(/** @type {string} */ (lines.shift())) },
  { starts: /^```/, take: (/** @type {string[]} */ lines) => code(lines) },
  { starts: /^\|/, take: (/** @type {string[]} */ lines) => table(takeWhile(lines, (line) => line.startsWith("|"))) },
  { starts: /^>/, take: (/** @type {string[]} */ lines) => quote(takeWhile(lines, (line) => line.startsWith(">"))) },
  { starts: /^[-*] /, take: (/** @type {string[]} */ lines) => list(takeWhile(lines, (line) => /^([-*] |\s+\S)/.test(line))) },
];

/** @param {string[]} lines @param {(line: string) => boolean} isPart */
function takeWhile(lines, isPart) {
  const end = lines.findIndex((line) => !isPart(line));
  return lines.splice(0, end < 0 ? lines.length : Math.max(1, end));
}

/** @param {string} line */
function heading(line) {
  const level = Math.min(4, line.indexOf(" ") + 2);
  return inline(make(`h${level}`, ""), line.replace(/^#+ /, ""));
}

/** @param {string[]} lines */
function paragraph(lines) {
  return inline(make("p", ""), lines.join(" "));
}

/** @param {string[]} lines */
function code(lines) {
  lines.shift();
  const body = takeWhileOrNone(lines);
  lines.shift();
  return make("pre", "", { textContent: body.join("\n") });
}

/** @param {string[]} lines  up to the closing fence */
function takeWhileOrNone(lines) {
  const end = lines.findIndex((line) => line.startsWith("```"));
  return lines.splice(0, end < 0 ? lines.length : end);
}

/** @param {string[]} lines */
function quote(lines) {
  const box = make("blockquote", "");
  box.append(...markdownBlocks(lines.map((line) => line.replace(/^> ?/, "")).join("\n")));
  return box;
}

/** @param {string[]} lines */
function list(lines) {
  const items = lines.join("\n").split(/\n(?=[-*] )/);
  const box = make("ul", "");
  box.append(...items.map((item) => inline(make("li", ""), item.replace(/^[-*] /, "").replace(/\s+/g, " "))));
  return box;
}

/** @param {string[]} lines */
function table(lines) {
  const rows = lines.filter((line) => !/^\|[\s|:-]+\|?$/.test(line) || /^\|[\s|]+$/.test(line)).map((line) =>
    line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|")));
  const box = make("table", "");
  rows.forEach((cells, index) => {
    if (cells.every((cell) => !cell)) return;
    const row = make("tr", "");
    row.append(...cells.map((cell) => inline(make(index ? "td" : "th", ""), cell)));
    box.append(row);
  });
  return box;
}

/** Bold, code and the text of links. @param {any} box @param {string} text */
function inline(box, text) {
  for (const part of text.split(/(\*\*[^*]+\*\*|`[^`]+`|\[[^\]]+\]\([^)]*\))/)) {
    if (part.startsWith("**")) box.append(make("strong", "", { textContent: part.slice(2, -2) }));
    else if (part.startsWith("`")) box.append(make("code", "", { textContent: part.slice(1, -1) }));
    else if (part.startsWith("[")) box.append(part.slice(1, part.indexOf("]")));
    else box.append(part);
  }
  return box;
}
