"""The report's part on pseudo-labels: what was exported, how good it is, and examples by confidence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS, area
from cxr.coco import CocoBoxes
from cxr.tables import count_reasons
from eval.leaderboard.examples import at_places, boxes_of, render_image
from eval.leaderboard.names import display_name
from eval.report.blocks import Block, Figure, Table
from eval.report.box_colours import FROM_MAP, IGNORED, TRUE, legend_of
from eval.report.captions import chance_text
from eval.report.format import Cell, estimate_text
from eval.report.pictures import BoxLayer, Rgb, grid, save_jpeg
from stage2_pseudolabel.pseudolabels.export import LOW_CONFIDENCE, NO_BOX, NOT_SEEN, PseudoLabels
from stage2_pseudolabel.pseudolabels.quality import Quality

_TILE_PX = 320
_PLACES = {"most confident": 0.0, "median": 0.5, "least confident": 1.0}


def pseudo_label_blocks(run_dir: Path, labels: PseudoLabels, quality: Quality | None) -> list[Block]:
    """Tables, and example pictures if there is any box or ignore region; writes the pictures into `run_dir`."""
    tables: list[Block] = [count_table(labels), coverage_table(labels)]
    if quality is not None:
        tables.append(quality_table(quality))
    if labels.coco.boxes.empty:
        return tables
    name = "pictures/pseudo_labels.jpg"
    save_jpeg(run_dir / name, example_pictures(labels.coco, None if quality is None else quality.truth))
    shown = "confidence" if "confidence" in labels.coco.boxes else "score"
    note = f"Images by their best box of the finding; all its boxes are shown with their {shown}."
    kinds = (FROM_MAP, IGNORED) if quality is None else (TRUE, FROM_MAP, IGNORED)
    return [*tables, Figure("Pseudo-labels of training images", name, note, legend=legend_of(*kinds))]


def box_statistics(coco: CocoBoxes) -> pd.DataFrame:
    """One row per finding: boxes, images (with a box), regions (ignored), median_area, median_confidence.

    median_area is a share of the image; both medians are NaN without boxes.
    """
    sizes = coco.images.set_index("image_id")[["width", "height"]].prod(axis=1)
    boxes, regions = coco.boxes[~coco.is_ignored], coco.boxes[coco.is_ignored]
    share = area(boxes[CORNERS]) / boxes["image_id"].map(sizes).to_numpy(dtype=np.float64)
    by_finding = boxes.assign(share=share, confidence=boxes[_confidence_column(boxes)]).groupby("finding")
    table = pd.DataFrame({"boxes": by_finding.size(), "images": by_finding["image_id"].nunique()})
    table = table.reindex(list(coco.findings))
    table["regions"] = regions["finding"].value_counts()
    table = table.fillna(0).astype(int)
    table["median_area"], table["median_confidence"] = by_finding["share"].median(), by_finding["confidence"].median()
    return table.rename_axis("finding").reset_index()


def count_table(labels: PseudoLabels) -> Table:
    """Boxes and ignore regions per finding, with method and rule; the note says what was excluded and why."""
    made_by = labels.coco.info.get("made_by", {})
    methods, rules = made_by.get("methods", {}), made_by.get("rules", {})
    rows: list[list[Cell]] = [
        [*row, display_name(methods[row[0]]) if row[0] in methods else "", rules.get(row[0], "")]
        for row in box_statistics(labels.coco).itertuples(index=False, name=None)
    ]
    columns = ["finding", "boxes", "images", "ignore regions", "median area", "median confidence", "method", "rule"]
    return Table("Pseudo-labels", columns, rows, _note(labels))


def coverage_table(labels: PseudoLabels) -> Table:
    """How many positives of each finding keep a box, and why the others have none."""
    coverage, reasons = labels.coverage, (NOT_SEEN, NO_BOX, LOW_CONFIDENCE)
    facts = zip(
        coverage.findings, coverage.base_rates, coverage.positives, coverage.boxed, coverage.shares, strict=True
    )
    rows: list[list[Cell]] = [
        [name, float(rate), int(positives), int(boxed), float(share), *_without_box(labels.coco, name, reasons)]
        for name, rate, positives, boxed, share in facts
    ]
    columns = ["finding", "share of labels", "positive images", "with a box", "share", "not seen", "no box by the rule"]
    note = (
        "Training images whose label affirms the finding. Not seen: the classifier's probability is too low for a "
        "finding with this share of positive labels (pseudo_labels.min_likelihood_ratio). The whole image, or the box "
        "of low confidence, is then an ignore region of the finding. Images that cannot be read have no box either."
    )
    return Table("Positives with a box", [*columns, "low confidence"], rows, note)


def _without_box(coco: CocoBoxes, finding: str, reasons: Sequence[str]) -> list[int]:
    """Number of images that have no box of the finding, but an ignore region of it, for each reason."""
    own = (coco.boxes["finding"] == finding).to_numpy(dtype=bool)
    boxed = set(coco.boxes.loc[own & ~coco.is_ignored, "image_id"])
    regions = coco.boxes[own & coco.is_ignored]
    return [len(set(regions.loc[regions["ignored_by"] == reason, "image_id"]) - boxed) for reason in reasons]


def _note(labels: PseudoLabels) -> str:
    coco, calibration = labels.coco, labels.calibration
    boxed = set(coco.boxes.loc[~coco.is_ignored, "image_id"])
    only_ignored = set(coco.boxes["image_id"]) - boxed
    plain = len(coco.images) - len(boxed) - len(only_ignored)
    sentences = [
        f"{len(boxed)} images with boxes, {len(only_ignored)} with ignore regions only, {plain} without either."
    ]
    if len(labels.dropped):
        sentences.append(
            f"{len(labels.dropped)} further boxes of low confidence were dropped because their image has a better one."
        )
    if labels.ignored:
        sentences.append(f"Ignore regions: {_counted(labels.ignored)}.")
    if labels.excluded:
        reasons = _counted(count_reasons(labels.excluded))
        sentences.append(f"Excluded (listed in excluded.json): {len(labels.excluded)} images, {reasons}.")
    if np.isfinite(calibration.brier):
        sentences.append(
            "Confidence is the probability that a box matches a true box at IoU .4. It is fitted on "
            f"{calibration.num_boxes} boxes of the tune split, of which {calibration.num_hits} match. In "
            f"cross-validation its expected calibration error is {calibration.ece:.3f} and its Brier score "
            f"{calibration.brier:.3f} ({calibration.brier_constant:.3f} if all boxes had the same confidence)."
        )
    return " ".join(sentences)


def _counted(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items())


def quality_table(quality: Quality) -> Table:
    """Precision and recall per finding, also of all boxes by the rules if some were not exported."""
    sets = {"": quality.exported}
    if quality.unfiltered.num_boxes != quality.exported.num_boxes:
        sets[" of all boxes"] = quality.unfiltered
    measures = {
        f"{word}{ending}": scored
        for ending, rates in sets.items()
        for word, scored in (("precision", rates.precision), ("recall", rates.recall))
    }
    rows: list[list[Cell]] = [
        [finding, *(estimate_text(m.estimate(finding)) for m in measures.values())]
        for finding in quality.truth.findings
    ]
    rows.append(["mean", *(estimate_text(m.estimate()) for m in measures.values())])
    note = (
        f"Compared with {quality.num_true} true boxes of {quality.num_images} training images at IoU .4, with 95 % "
        f"bootstrap intervals over patients; these images have {quality.exported.num_boxes} pseudo-boxes. True boxes "
        "in excluded images and those covered by ignore regions only are not found."
    )
    return Table("Pseudo-boxes against true boxes", ["finding", *measures], rows, note, highlight=len(rows) - 1)


def example_pictures(coco: CocoBoxes, truth: CocoBoxes | None) -> Rgb:
    """One row per finding: the images with the most, median and least confident box, and one with an ignore region."""
    tiles, captions = [], []
    for finding in coco.findings:
        if finding in set(coco.boxes["finding"]):
            for image_id, words in _examples(coco, finding):
                tiles.append(_tile(coco, truth, image_id, finding) if image_id else np.full((1, 1, 3), 255, np.uint8))
                captions.append(f"{finding}: {words}" if image_id else "")
    return grid(tiles, captions, columns=len(_PLACES) + 1, tile_px=_TILE_PX)


def _examples(coco: CocoBoxes, finding: str) -> list[tuple[str, str]]:
    """Four pairs (image_id, caption), no image twice among the boxes; ("", "") where there is none."""
    own = (coco.boxes["finding"] == finding).to_numpy()
    boxes, regions = coco.boxes[own & ~coco.is_ignored], coco.boxes[own & coco.is_ignored]
    ordered = boxes.sort_values(_confidence_column(boxes), ascending=False, kind="stable")["image_id"].unique()
    examples = list(at_places(ordered.tolist(), _PLACES).items())
    examples += [("", "")] * (len(_PLACES) - len(examples))
    if regions.empty:
        return [*examples, ("", "")]
    region = regions.iloc[len(regions) // 2]
    return [*examples, (str(region["image_id"]), f"ignored, {region.get('ignored_by', 'no box')}")]


def _confidence_column(boxes: pd.DataFrame) -> str:
    return "confidence" if "confidence" in boxes else "score"


def _tile(coco: CocoBoxes, truth: CocoBoxes | None, image_id: str, finding: str) -> Rgb:
    own = boxes_of(coco.boxes, image_id, finding)
    is_ignored = coco.is_ignored[own.index]
    boxes = own[~is_ignored].sort_values(_confidence_column(own), kind="stable")
    values = boxes.get("confidence", [None] * len(boxes))
    texts = [chance_text(score, value) for score, value in zip(boxes["score"], values, strict=True)]
    layers = [
        BoxLayer(own.loc[is_ignored, CORNERS].to_numpy(), IGNORED.colour, dashed=True),
        BoxLayer(boxes[CORNERS].to_numpy(), FROM_MAP.colour, texts),
    ]
    if truth is not None:
        real = boxes_of(truth.without_ignored().boxes, image_id, finding)
        layers.insert(0, BoxLayer(real[CORNERS].to_numpy(), TRUE.colour))
    return render_image(coco, image_id, layers, tile_px=_TILE_PX)
