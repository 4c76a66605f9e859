/**
 * Types of the page. Coordinates named `xyxy` are pixels of the original image; `screen` means CSS pixels of a tile.
 *
 * @typedef {[number, number, number, number]} Box  x1, y1, x2, y2
 * @typedef {{width: number, height: number}} Size
 * @typedef {{zoom: number, x: number, y: number}} View  zoom 1 fits the tile; (x, y) is the image point in its centre
 * @typedef {{scale: number, left: number, top: number}} Transform  screen = left + scale * x
 * @typedef {{centre: number, width: number}} Window  shares of the image's grey range
 *
 * @typedef {object} Detection  as the service answers it
 * @property {string} finding
 * @property {string[]} parents
 * @property {Box} box_xyxy
 * @property {number} score
 * @property {number|null} confidence
 * @property {boolean} shown
 *
 * @typedef {object} Mark  something drawn over the image
 * @property {string} id
 * @property {"detection"|"truth"|"prior"|"edit"} kind
 * @property {string} finding
 * @property {Box} xyxy
 * @property {string} text
 * @property {string} [action]
 *
 * @typedef {{false_per_image: number, low: number|null, high: number|null, never_found: string[]}} Measured
 *   what an operating point does on the test split
 *
 * @typedef {object} Model  answer of /v1/model
 * @property {string} id
 * @property {string} name
 * @property {string[]} findings
 * @property {string} manifest_sha256
 * @property {Record<string, string[]>} parents
 * @property {string} format
 * @property {string} licence
 * @property {string} card
 * @property {Record<string, {about: string, scores: Record<string, number|null>, confidence: number|null, measured: Measured|null}>} points
 * @property {string|null} default_point
 * @property {string} map_method
 * @property {boolean} synthetic
 * @property {boolean} corrections  whether they are accepted
 * @property {boolean} images_kept  whether the images of saved corrections are stored
 *
 * @typedef {{kind: "point", name: string} | {kind: "threshold", value: number}} Filter
 *
 * @typedef {object} Edit  one box of a correction; null action: not decided yet
 * @property {string} id
 * @property {string} finding
 * @property {Box} xyxy
 * @property {"accepted"|"rejected"|"moved"|"drawn"|"relabelled"|null} action
 * @property {Detection|null} source  null for a drawn box
 *
 * @typedef {object} Focus  what the reader points at: a finding (with its children), or one box
 * @property {string[]} findings  the finding first, then those below it
 * @property {string|null} markId
 *
 * @typedef {object} Reading  one image on the page
 * @property {string} id
 * @property {File} file
 * @property {string} name
 * @property {"loading"|"ready"|"error"} status
 * @property {string} message  the error in one sentence, or what the page waits for
 * @property {boolean} canRetry
 * @property {Size} size
 * @property {string} sha256
 * @property {string} modelSha256
 * @property {{ok: boolean, reasons: string[], abstained: boolean}} quality
 * @property {Detection[]} detections
 * @property {Detection[]} withheld  boxes on an unsuitable image, until the reader asks for them
 * @property {import("./picture.js").Picture|null} picture
 * @property {Window} window
 * @property {boolean} inverted
 * @property {View} view
 * @property {{finding: string, box_xyxy: Box}[]} truth
 * @property {Map<string, {probability: number, canvas: HTMLCanvasElement}>|null} maps
 * @property {string} mapsMessage
 * @property {import("./corrections.js").Corrections|null} corrections
 * @property {boolean} isWhole  the reader read the whole image
 * @property {number} seconds  time on screen as the active image
 * @property {number} clicks  while it is the active image
 * @property {number|null} clicksToBoxes  clicks from opening the file until its boxes were visible
 */
export {};
