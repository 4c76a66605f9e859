"""The model card: figures come from the metrics, limits from the facts, and what is not there is not said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from cxr.imaging.files import write_png8
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import open_run
from stage3_detect.export.card_facts import CardFacts, box_counts, named
from stage3_detect.export.card_tables import card_rows, comparison_table, file_table, finding_table, point_table
from stage3_detect.export.model_card import card_text, write_model_card
from stage3_detect.labels.sources import Sources, open_sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.settings.detector import Stage3Settings
from tests.stage3_detect.prediction.run_builders import SETTINGS, make_stage3_run
from tests.stage3_detect.stage3_builders import FINDINGS, make_stage2_run

NODULE, EFFUSION = FINDINGS
FOLDER = YoloFolder(Path("yolo/data.yaml"), 1200, 600, 30, 0, 0, 2500, 70, 1, ())
METRICS = {
    "ap40/detector": 0.5,
    "ap40/detector/low": 0.4,
    "ap40/detector/high": 0.6,
    "ap40/detector/nodule_mass": 0.25,
    "ap40/detector/nodule_mass/low": 0.2,
    "ap40/detector/nodule_mass/high": 0.3,
    "ap40/detector/pleural_effusion": None,
    "ap10/detector": 0.7,
    "ap40/teacher": 0.4,
    "ap40/teacher/nodule_mass": 0.1,
    "ap40/prior_no_map": 0.2,
    "ap40/prior_no_map/nodule_mass": 0.3,
    "ap40/human": 0.8,
    "ap40/detector_minus_teacher": 0.1,
    "ap40/detector_minus_teacher/low": -0.05,
    "ap40/detector_minus_teacher/high": 0.25,
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> CardFacts:
    folder = tmp_path_factory.mktemp("card")
    stage2 = open_run(make_stage2_run(folder))
    weights = folder / "best.pt"
    weights.write_bytes(b"weights")
    sources = open_sources(stage2, SETTINGS.labels, seed=0)
    return CardFacts(SETTINGS, sources, stage2, FOLDER, METRICS, "It is good.", weights)


def with_settings(facts: CardFacts, **changes: Any) -> CardFacts:
    values = SETTINGS.model_dump()
    for section, fields in changes.items():
        values[section] = values[section] | fields if isinstance(fields, dict) else fields
    return replace(facts, settings=Stage3Settings.model_validate(values))


def of(facts: CardFacts, **parts: CocoBoxes) -> CardFacts:
    return replace(facts, sources=replace(facts.sources, **parts))


def without(coco: CocoBoxes, finding: str) -> CocoBoxes:
    return coco.with_boxes(coco.boxes[coco.boxes["finding"] != finding].reset_index(drop=True))


def limits(facts: CardFacts) -> list[str]:
    """The lines of the card's section about limits."""
    section = card_text(facts).split("## Limits\n\n")[1].split("\n\n## ")[0]
    return [" ".join(line.split()) for line in section.removeprefix("- ").split("\n- ")]


def sentences(facts: CardFacts) -> str:
    """The card without line breaks."""
    return " ".join(card_text(facts).split())


def test_words():
    empty = CocoBoxes(pd.DataFrame(), boxes_table(), FINDINGS, {"dataset": "vindr", "split": "test"})
    assert named(empty) == "vindr (test)" and named(replace(empty, info={})) == "a data set without a name"
    assert box_counts(empty) == {NODULE: 0, EFFUSION: 0}
    ignored = empty.with_boxes(boxes_table([("a", NODULE, 0, 0, 1, 1, 1)] * 3).assign(iscrowd=[0, 1, 1]))
    assert box_counts(ignored) == {NODULE: 1, EFFUSION: 0}


def test_comparison_has_what_was_measured_in_order(facts: CardFacts):
    more = replace(facts, metrics=METRICS | {"ap40/prior_mean_box": 0.1, "ap40/supervised": 0.9})
    references = ["supervised", "human", "prior_no_map", "prior_mean_box"]
    assert list(card_rows(more).shown) == ["detector", "teacher", *references]
    table = comparison_table(facts)
    assert [list(row) for row in table.rows] == [
        ["detector", "0.500 [0.400, 0.600]", "", 0.7, None, None],
        ["CAM teacher: PCAM", "0.400", "0.100 [-0.050, 0.250]", None, None, None],
        ["human ceiling", "0.800", "–", None, None, None],
        ["prior: Bayes rule, no map", "0.200", "–", None, None, None],
    ]


def test_finding_without_score_is_a_dash(facts: CardFacts):
    learned, tested = box_counts(facts.sources.labels), box_counts(facts.test)
    assert [list(row) for row in finding_table(facts).rows] == [
        [NODULE, tested[NODULE], "0.250 [0.200, 0.300]", "0.100", "–", "0.300", learned[NODULE]],
        [EFFUSION, tested[EFFUSION], "–", "–", "–", "–", learned[EFFUSION]],
    ]
    assert "| Pleural Effusion | " in card_text(facts) and " | – | – | – |" in card_text(facts)


def test_points_and_files_are_omitted_or_stated(facts: CardFacts, tmp_path: Path):
    assert point_table(facts).rows == [] and "Operating points\n" not in card_text(facts)
    points = {"f1": {"about": "highest F1", "scores": {NODULE: 0.3, EFFUSION: None}}}
    figures = {"sensitivity/f1": 0.5, "sensitivity/f1/low": 0.4, "sensitivity/f1/high": 0.6}
    with_points = replace(facts, operating_points=points, metrics=METRICS | figures)
    assert [list(row) for row in point_table(with_points).rows] == [
        ["f1", "highest F1", "0.500 [0.400, 0.600]", "–", "–"]
    ]
    never = [line for line in limits(with_points) if line.startswith("Operating point f1 never shows")]
    assert len(never) == 1 and never[0].endswith(f": {EFFUSION}.")
    assert not any("found no test box" in line for line in limits(with_points))
    missed = replace(with_points, metrics=with_points.metrics | {"sensitivity/f1/nodule_mass": 0.0})
    assert f"Operating point f1 found no test box of: {NODULE}." in limits(missed)
    files = {}
    for name, size in (("openvino_int8", 200_000), ("openvino_int8_bin", 3_000_000)):
        files[name] = tmp_path / f"{name}.file"
        files[name].write_bytes(b"0" * size)
    figures = {"export/openvino_int8/box_difference_px": 1.234, "ms_per_image/detector_openvino_int8": 12.34}
    exported = replace(
        facts, files=files, notes={"tensorrt_fp16": "no GPU"}, metrics=METRICS | figures | {"ms_per_image/detector": 30}
    )
    assert [list(row) for row in file_table(exported).rows] == [
        ["pytorch", "`best.pt`", "0.0", "", "", "", "30.0", None],
        ["openvino_int8", "`openvino_int8.file`", "3.2", "1.2", None, "–", "12.3", None],
    ]
    text = card_text(exported)
    assert "Not exported: tensorrt_fp16, no GPU." in text
    assert f"`openvino_int8_bin.file`: sha256 {sha256_of(files['openvino_int8_bin'])}" in text


def test_limits_follow_from_the_facts(facts: CardFacts):
    tested = box_counts(facts.test)
    assert all(0 < count < 20 for count in tested.values())
    lines = limits(facts)
    assert len(lines) == 8
    assert "discs (test)" in lines[1]
    assert lines[4] == f"Fewer than 20 test boxes: {NODULE} ({tested[NODULE]}), {EFFUSION} ({tested[EFFUSION]})."
    assert "prior that uses no map" in lines[5] and lines[5].endswith(f": {NODULE}.")


def test_limits_of_missing_boxes_and_other_sources(facts: CardFacts):
    labels = replace(without(facts.sources.labels, NODULE), info={"dataset": "other"})
    test = replace(without(facts.test, EFFUSION), info=dict(facts.test.info) | {"synthetic": False})
    changed = of(replace(facts, metrics={}), labels=labels, test=test)
    lines = limits(changed)
    assert f"No test boxes and therefore no score: {EFFUSION}." in lines
    assert f"No training boxes: {NODULE}." in lines
    assert not any("same source" in line or "computer-generated" in line or "no map" in line for line in lines)
    assert "synthetic" not in card_text(changed)
    halves = replace(test, images=test.images.assign(region="left"))
    assert any("each half of the chest" in line for line in limits(of(facts, test=halves)))
    assert not any("each half of the chest" in line for line in lines)
    warned = replace(facts, warnings={"openvino_int8": "AP40 falls by 0.1"})
    assert limits(warned)[-1] == "openvino_int8: AP40 falls by 0.1"


def test_where_labels_come_from(facts: CardFacts):
    text = sentences(facts)
    assert "A classifier learned the findings from image labels (stage 1). PCAM showed" in text
    assert (
        "Training images: 1,200 with boxes, 600 without, 30 with uncertain regions only; 2,500 boxes, and 70 regions"
        in text
    )
    assert "The best epoch was chosen on 1 held-out training image." in text
    true = sentences(with_settings(facts, labels={"source": "true_boxes"}))
    assert "The boxes of discs (train) are true boxes" in true and "No person drew" not in true
    assert "| trained on | discs (train): true boxes |" in true and "errors of the classifier" not in true


def test_rounds_and_true_boxes_are_stated(facts: CardFacts):
    rounds = sentences(replace(facts, metrics=METRICS | {"rounds/num": 3.0, "rounds/best": 1.0}))
    assert "trained again. The weights are from training 2 of 3, the best on the tune split." in rounds
    first = sentences(replace(facts, metrics=METRICS | {"rounds/num": 3.0, "rounds/best": 0.0}))
    assert "did not improve it. The weights are from training 1 of 3" in first
    assert "relabel" not in card_text(replace(facts, metrics=METRICS | {"rounds/num": 1.0, "rounds/best": 0.0}))
    few = {"true_boxes": {"num_boxes": "all"}}
    mixed = of(with_settings(facts, labels=few), true=facts.sources.tune)
    count = len(facts.sources.tune.boxes)
    assert f"6 images of the tune split with {count} true boxes are training images, too." in sentences(mixed)
    alone = of(with_settings(facts, labels={"true_boxes": {"num_boxes": "all", "only": True}}), true=facts.sources.tune)
    text = sentences(alone)
    assert f"with {count} true boxes are the only training images." in text and "No person drew" not in text


def test_corrections_are_stated_and_their_boxes_counted(facts: CardFacts):
    corrections = facts.sources.tune.select(facts.sources.tune.images["image_id"][:2])
    count = len(corrections.boxes)
    corrected = of(facts, corrections=corrections, labels=without(facts.sources.labels, NODULE))
    text = sentences(corrected)
    assert f"Readers corrected 2 training images on the reading page; their {count} boxes replace" in text
    assert "No person drew" not in text and "No person drew" in sentences(facts)
    assert "pseudo-boxes from CAM maps, and readers' corrections |" in text
    assert not any(line.startswith("No training boxes") for line in limits(corrected))
    missing = of(facts, corrections=without(corrections, NODULE), labels=without(facts.sources.labels, NODULE))
    assert any(line.startswith(f"No training boxes: {NODULE}") for line in limits(missing))


def test_intervals_name_the_resampled_unit(facts: CardFacts):
    assert "from 1,000 bootstrap resamples of images, because" in sentences(facts)
    test = facts.test
    patients = test.images.assign(patient_id=[f"p{index // 3}" for index in range(len(test.images))])
    known = sentences(of(facts, test=replace(test, images=patients)))
    assert "resamples of patients." in known and f"9 images of 3 patients, {len(test.boxes)} true boxes" in known


def test_pipe_in_a_name_breaks_no_table(facts: CardFacts):
    sources = facts.sources
    renamed = Sources(
        *(replace(part, findings=("a|b", "c"), boxes=part.boxes.iloc[:0]) for part in (sources.labels, sources.tune)),
        None,
        replace(sources.test, findings=("a|b", "c"), boxes=boxes_table()),
    )
    lines = [line for line in card_text(replace(facts, sources=renamed)).splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in lines if "a/b" in line}
    assert widths == {3, 8} and not any("a|b" in line for line in lines)


def test_figures_are_the_metrics_and_nothing_else(facts: CardFacts):
    """Other metrics, other figures: no number in the tables is written by hand."""
    rng = np.random.default_rng(0)
    other = {name: None if value is None else float(rng.uniform()) for name, value in METRICS.items()}
    rows = {
        name: card_text(replace(facts, metrics=metrics)).splitlines()
        for name, metrics in (("a", METRICS), ("b", other))
    }
    pairs = [(a, b) for a, b in zip(rows["a"], rows["b"], strict=False) if a.startswith("| detector |")]
    assert pairs and all(a != b for a, b in pairs)
    assert f"{other['ap40/detector']:.3f} [{other['ap40/detector/low']:.3f}, " in "\n".join(rows["b"])


def test_file_is_written_whole_and_without_paths(facts: CardFacts, tmp_path: Path):
    path = write_model_card(tmp_path, facts)
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "MODEL_CARD.md" and text == card_text(facts) and list(tmp_path.iterdir()) == [path]
    assert text.startswith("# Model card: yolo26n, 2 findings on chest radiographs\n\n> For research only.")
    assert "**The test images are synthetic**" in text and "It is good." in text
    assert str(facts.weights.parent) not in text and f"`best.pt`: sha256 {sha256_of(facts.weights)}" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Training data",
        "## Results",
        "## Use",
        "## Intended use",
        "## Out of scope",
        "## Limits",
        "## Licence",
        "## Versions",
    ]


def test_weights_file_is_named_without_its_folder(facts: CardFacts):
    text = card_text(with_settings(facts, model="/home/somebody/weights/mine.pt"))
    assert "| network | mine (Ultralytics YOLO), trained further from mine.pt |" in text and "somebody" not in text


def test_the_call_in_the_card_works(facts: CardFacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_stage3_run(tmp_path / "stage3")
    write_png8(tmp_path / "image.png", np.eye(40, 60, dtype=np.float32))
    code = card_text(facts).split("```python\n")[1].split("```")[0]
    code = code.replace("RUN", str(tmp_path / "stage3")).replace("image.dcm", str(tmp_path / "image.png"))
    exec(code, {})  # the very text that a user copies
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith(FINDINGS) for line in lines)
