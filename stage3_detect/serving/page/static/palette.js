/** Colours of findings, the same as in the pictures that `predict.py` renders, and of heat maps. */

// Okabe & Ito's colours first, lightened for dark radiographs; four more serve long lists of findings.
const COLOURS = [
  "#56b4e9", "#e69f00", "#00be8c", "#f0e442", "#e69fc8", "#ffffff", "#ff5050", "#a578ff", "#aaf03c", "#c8a06e",
];

/** @param {string} finding @param {string[]} findings  all findings of the model; their order gives the colours */
export function colourOf(finding, findings) {
  const index = findings.indexOf(finding);
  if (index < 0) return "#c9d1d9";
  const colour = COLOURS[index % COLOURS.length];
  return index < COLOURS.length ? colour : tint(colour);
}

/** Half way to white, or grey for white itself: a second round of colours. @param {string} colour */
function tint(colour) {
  if (colour === "#ffffff") return "#98a2ad";
  const parts = [1, 3, 5].map((at) => Math.round((Number.parseInt(colour.slice(at, at + 2), 16) + 255) / 2));
  return `rgb(${parts.join(" ")})`;
}

// Dark violet, magenta, orange, pale yellow: lightness rises steadily, so the order is readable without hue.
const HEAT = [[20, 11, 52], [101, 21, 110], [187, 55, 84], [243, 120, 25], [252, 210, 70], [252, 255, 190]];
const HEAT_OPACITY = 0.42; // the lungs stay readable below

/** 256 RGBA colours for map values; low values are transparent. @returns {Uint8ClampedArray} */
export function heatTable() {
  const table = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value += 1) {
    const place = (value / 255) * (HEAT.length - 1);
    const below = Math.min(Math.floor(place), HEAT.length - 2);
    for (let c = 0; c < 3; c += 1) {
      table[4 * value + c] = HEAT[below][c] + (place - below) * (HEAT[below + 1][c] - HEAT[below][c]);
    }
    table[4 * value + 3] = 255 * HEAT_OPACITY * (value / 255);
  }
  return table;
}
