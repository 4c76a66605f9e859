"""The model card of a finished run: what the detector is, what it learned from, how good it is and where it ends.

After Mitchell et al. 2019, Model cards for model reporting (arXiv:1810.03993). Every figure comes from the run's
metrics; what was not measured is a dash or is not said.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cxr.runs.provenance import code_state, library_versions, sha256_of
from cxr.runs.run_folder import atomic_write_text
from eval.leaderboard.run_tables import display_name
from eval.report.blocks import Table
from eval.report.text_tables import markdown
from stage3_detect.export.card_facts import CardFacts, counted, named
from stage3_detect.export.card_limits import limits
from stage3_detect.export.card_tables import comparison_table, file_table, finding_table, point_table

FILE_NAME = "MODEL_CARD.md"

_INTENDED = """\
- Research on finding detection in chest radiographs, and on learning from image-level labels.
- Marking regions for a radiologist to look at, in studies that measure what this does."""

_OUT_OF_SCOPE = """\
- Diagnosis, triage, treatment, or any decision about a patient without a radiologist's own reading.
- Ruling a finding out: an image without a box is no normal image.
- Findings, views, ages, devices and body parts that the figures above do not cover."""

_LICENCE = """\
AGPL-3.0. This project is under it, and so is Ultralytics, with which the network was built and which marks weights that
its code writes as AGPL-3.0 too; Ultralytics sells an Enterprise License to those who want to be free of its duties.
Under AGPL-3.0 anyone may run, change and pass on the program; who passes it on, or lets others use a changed version
over a network, has to offer them its complete source under the same licence (sections 5, 6 and 13). The terms of the
data sets apply as well. This is no legal advice."""

_CALL = """\
```
python stage3_detect/predict.py RUN IMAGES... --format {form}
```
```python
from pathlib import Path
from cxr.imaging.files import read_image
from cxr.runs.run_folder import open_run
from stage3_detect.prediction.points import open_point
from stage3_detect.prediction.predictor import BoxPredictor

run = open_run(Path("RUN"), stage="stage3")
predictor = BoxPredictor(run, open_point(run, None), format="{form}")
for box in predictor.predict(read_image(Path("image.dcm"))):
    print(box.finding, box.xyxy, box.score, box.confidence, box.shown)
```"""


def write_model_card(run_dir: Path, facts: CardFacts) -> Path:
    """Write MODEL_CARD.md into the run folder, atomically; returns its path. No path of this machine is in it."""
    path = run_dir / FILE_NAME
    atomic_write_text(path, card_text(facts))
    return path


def card_text(facts: CardFacts) -> str:
    """The whole card in Markdown."""
    parts = [
        f"# Model card: {facts.architecture}, {counted(len(facts.findings), 'finding')} on chest radiographs",
        _warning(facts),
        _at_a_glance(facts),
        facts.verdict,
        "## What it learned from",
        " ".join(_learned(facts)),
        *_figures(facts),
        "## Use",
        _CALL.format(form="onnx" if "onnx" in facts.files else "pytorch"),
        _for_other_programs(facts),
        "## Intended use",
        _INTENDED,
        "## Out of scope",
        _OUT_OF_SCOPE,
        "## Limits",
        _list(limits(facts)),
        "## Licence",
        _LICENCE,
        "## Versions",
        _list(_versions(facts)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warning(facts: CardFacts) -> str:
    words = "> For research. It marks regions for a radiologist to look at. It makes no diagnosis and is no medical "
    words += "device."
    if facts.synthetic:
        words += "\n>\n> **The test pictures are synthetic** (drawn phantoms): no figure here says "
        words += "anything about patients."
    return words


def _at_a_glance(facts: CardFacts) -> str:
    settings = facts.settings
    grey = (
        "one grey channel"
        if facts.channels == 1
        else f"{facts.channels} channels, all of them the grey picture"
    )
    heads = "one-to-one head" if settings.predict.nms_free else f"NMS at IoU {settings.predict.nms_iou:g}"
    rows = {
        "network": f"{facts.architecture} (Ultralytics YOLO), {facts.start}",
        "input": f"{grey}, {settings.data.image_px} x {settings.data.image_px} px, letterboxed, "
        "stretched by the picture's own minimum and maximum",
        "output": f"boxes with a finding and a score, {heads}",
        "findings": ", ".join(facts.findings),
        "learned from": f"{named(facts.sources.labels)}: {facts.learned_boxes}",
        "judged on": facts.judged_on,
        "mean AP40": facts.with_interval("ap40/detector"),
    }
    lines = [f"| {name} | {text.replace('|', '/')} |" for name, text in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _relabelled(facts: CardFacts) -> str:
    if facts.best_round == 0:
        return "Rounds in which the detector relabelled its training images brought nothing."
    return "The detector then relabelled its training images together with the CAM maps, and learned again."


def _learned(facts: CardFacts) -> list[str]:
    """Sentences on where boxes come from and how many images there were."""
    labels, folder = facts.settings.labels, facts.folder
    words = [] if labels.true_boxes.only else [_origin(facts)]
    if facts.num_rounds > 1:
        words.append(
            f"{_relabelled(facts)} Of {facts.num_rounds} trainings this is number {facts.best_round + 1}, the best on "
            "the tune split."
        )
    if facts.sources.true is not None:
        true = facts.sources.true
        count = counted(len(true.without_ignored().boxes), "true box")
        alone = " and nothing else" if labels.true_boxes.only else ""
        words.append(
            f"It learned from {counted(len(true.images), 'image')} of the tune split with {count}{alone}."
        )
    words.append(
        f"Training images: {folder.num_positives:,} with boxes, {folder.num_normals:,} without, "
        f"{folder.num_uncertain:,} with doubts only; {folder.num_boxes:,} boxes, {folder.num_regions:,} regions in "
        f"which a class counts less or not at all. {facts.chose_epoch}"
    )
    if folder.excluded:
        words.append(f"{counted(len(folder.excluded), 'image')} could not be read and was left out.")
    return words


def _origin(facts: CardFacts) -> str:
    if facts.settings.labels.source == "true_boxes":
        return f"The boxes of {named(facts.sources.labels)} are true boxes, not pseudo-boxes."
    methods = ", ".join(map(display_name, facts.methods))
    members = facts.stage2.manifest.get("classifier", {}).get("members", 1)
    classifier = "A classifier" if members == 1 else f"An ensemble of {members} classifiers"
    return (
        f"Nobody drew these boxes. {classifier} learned the findings from labels of whole images (stage 1); {methods} "
        "mapped what it looks at, and rules chosen on the tune split made pseudo-boxes with a calibrated confidence of "
        "those maps, where an image's label affirms the finding (stage 2). On them the detector was trained (stage 3)."
    )


def _figures(facts: CardFacts) -> list[str]:
    """Tables; a part that was not measured is left out."""
    parts = [
        "## Figures",
        f"On the test split, on which nothing was chosen: {facts.judged_on}. {facts.interval_words}",
    ]
    parts += [_table(table) for table in (comparison_table(facts), finding_table(facts), point_table(facts))]
    raw, calibrated = (facts.with_interval(f"ece/detector{end}") for end in ("", "_calibrated"))
    if facts.metrics.get("ece/detector") is not None:
        words = f"Expected calibration error of a box: {raw} of the score, {calibrated} of the confidence."
        parts.append(words)
    parts.append(_table(file_table(facts)))
    parts += [f"Not exported: {form}, {reason}." for form, reason in facts.notes.items()]
    return parts


def _table(table: Table) -> str:
    return markdown(table).replace("## ", "### ", 1) if table.rows else ""


def _for_other_programs(facts: CardFacts) -> str:
    size = facts.settings.data.image_px
    return (
        f"RUN is the folder of this card. A program of another kind gives an exported file float32 in [0, 1] of the "
        f"shape (1, {facts.channels}, {size}, {size}): pictures read as in `cxr/imaging/files.py` (DICOM window, "
        "MONOCHROME1), prepared as in `stage3_detect/model/preprocess.py`, boxes read as in "
        "`stage3_detect/model/boxes.py`." + _corrected(facts)
    )


def _corrected(facts: CardFacts) -> str:
    """What has to be done to boxes of an exported file, finding by finding."""
    if not facts.correction.shifts:
        return ""
    parts = []
    for name in facts.correction.shifts:
        x, y, width, height = facts.correction.factors(name)
        parts.append(f"{name} {width:.2f}, {height:.2f}, {x:+.2f}, {y:+.2f}")
    words = (
        "\n\nIts boxes are off by about the same in all images of a finding, as measured on the tune split; our own "
        "programs put that right, another has to: width times, height times, then right and down by so many of the new "
        "widths and heights (`box_correction` in `manifest.json`, `stage3_detect/model/correction.py`): "
    )
    return words + "; ".join(parts) + "."


def _versions(facts: CardFacts) -> list[str]:
    code = code_state()
    commit = code["commit"] or "unknown"
    lines = [f"raybox {version('raybox')}, commit {commit}{' with changes' if code['dirty'] else ''}"]
    lines.append(", ".join(f"{name} {number}" for name, number in library_versions().items()))
    lines += [f"`{file.name}`: sha256 {sha256_of(file)}" for file in (facts.weights, *facts.files.values())]
    lines.append(f"stage 2's `manifest.json`: sha256 {sha256_of(facts.stage2.dir / 'manifest.json')}")
    lines.append(
        f"seed {facts.settings.seed}; all settings are in `config.yaml`, all figures in `metrics.json`"
    )
    return lines


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
