"""`eval/run.py compare` over runs that the real run machinery wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config import Settings, UserError
from cxr.runs.run_folder import start_run
from eval.leaderboard.compare import compare_runs
from eval.leaderboard.names import box_names
from eval.report.blocks import Figure, Table, Text, read_report, write_report
from eval.report.pictures import save_png
from eval.run import main

CLASSIFIER = {
    "auroc/mean": 0.85,
    "auroc/mean/low": 0.8,
    "auroc/mean/high": 0.9,
    "auroc/edema": 0.85,
    "auroc/nodule_mass": None,
    "f1/edema": 0.6,
    "ece/edema": 0.07,
    "positives/edema": 1.0,
    "positives/nodule_mass": 0.0,
}
CAMS = {
    "ap40/gradcam": 0.3,
    "ap40/gradcam/low": 0.2,
    "ap40/gradcam/high": 0.4,
    "ap40/gradcam/edema": 0.3,
    "ap40/pcam": 0.35,
    "ap40/prior_mean_box": 0.36,
    "ap40/dff": None,
    "ap10/pcam": 0.5,
    "ms_per_image/pcam": 12.345,
}
DETECTOR = {
    "ap40/detector": 0.4,
    "ap40/teacher": 0.35,
    "ap40/prior_mean_box": 0.36,
    "ap40/detector_minus_teacher": 0.05,
    "ms_per_image/detector": 3.0,
}
FINDINGS = ["Edema", "Nodule/Mass"]


class Nothing(Settings):
    """Settings of a run that has none."""


def finished(folder: Path, stage: str, metrics: Mapping[str, float | None], **facts: Any) -> Path:
    run = start_run(folder, stage=stage, settings=Nothing(), inputs={})
    run.finish(metrics, {}, findings=FINDINGS, **facts)
    return folder


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """Finished runs of the three stages in runs/demo."""
    demo = tmp_path / "runs" / "demo"
    return [
        finished(demo / "stage1", "stage1", CLASSIFIER),
        finished(demo / "stage2", "stage2", CAMS, best_method="pcam", verdict="PCAM it is."),
        finished(demo / "stage3", "stage3", DETECTOR, teacher_method="pcam"),
    ]


def rows(page: Path, title: str) -> list[list[Any]]:
    report = read_report(page.parent)
    assert report is not None
    table = next(block for block in report.blocks if block.title.startswith(title))
    return [list(row) for row in table.rows]


def test_run_without_any_figure(tmp_path: Path) -> None:
    page = compare_runs([finished(tmp_path / "a", "stage1", {})], out=tmp_path / "out")
    assert "Finished runs: 1." in page.read_text()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == {}


def test_report_goes_to_the_common_folder_with_all_figures(chain: list[Path]) -> None:
    page = compare_runs(chain)
    assert page.resolve() == chain[0].parent / "report.html"
    figures = json.loads((chain[0].parent / "metrics.json").read_text())
    assert figures["stage1/auroc/mean"] == 0.85
    assert figures["stage3/ap40/detector"] == 0.4
    assert len(figures) == len(CLASSIFIER) + len(CAMS) + len(DETECTOR)
    html = page.read_text()
    assert "Classifier: mean AUROC 0.850; chosen CAM method PCAM: AP40 0.350; detector: AP40 0.400" in html
    assert "PCAM it is." in html


def test_tables_of_the_three_stages(chain: list[Path]) -> None:
    page = compare_runs(chain)
    assert rows(page, "Classifier") == [
        ["mean", "0.850 [0.800, 0.900]", None, None, None, None, None, ""],
        ["Edema", "0.850", None, 0.6, None, None, 0.07, "1"],
        ["Nodule/Mass", "–", None, None, None, None, None, "0"],
    ]
    assert rows(page, "CAM methods") == [
        ["PCAM (chosen)", "0.350", 0.5, "12.3"],
        ["GradCAM", "0.300 [0.200, 0.400]", None, None],
        ["DFF", "–", None, None],
        ["prior: mean box", "0.360", None, None],
    ]
    assert [row[:2] for row in rows(page, "Detector")] == [
        ["detector", "0.400"],
        ["CAM teacher: PCAM", "0.350"],
        ["prior: mean box", "0.360"],
    ]


def test_further_measures_are_shown_where_a_run_has_them(tmp_path: Path) -> None:
    metrics = {"ap40/scorecambudget": 0.3, "ap40/per_finding": 0.4, "ap40/human": 0.6, "froc/per_finding": 0.5}
    metrics |= {"ap40/per_finding/readers/r_1": 0.2, "pointing/scorecambudget": 0.7}
    page = compare_runs([finished(tmp_path / "a", "stage2", metrics, best_method="per_finding")], out=tmp_path / "o")
    report = read_report(page.parent)
    assert report is not None
    table = next(b for b in report.blocks if isinstance(b, Table) and b.title.startswith("CAM methods"))
    assert list(table.columns) == ["boxes by", "AP40 [95 %]", "FROC"]
    assert table.rows == [
        ["best method per finding (chosen)", "0.400", 0.5],
        ["ScoreCAM budget", "0.300", None],
        ["human ceiling", "0.600", None],
    ]


def test_readers_of_the_tune_split_are_shown_as_such(tmp_path: Path) -> None:
    stage2 = CAMS | {"tune_ap40/human": 0.6, "tune_ap40/human/low": 0.5, "tune_ap40/human/high": 0.7}
    stage2 |= {"tune_ap40/human/edema": 0.6, "tune_ap40/pcam": 0.9}
    stage3 = DETECTOR | {name: value for name, value in stage2.items() if "human" in name}
    stage3 |= {"ap40/detector/edema": 0.4, "ap40/teacher/edema": 0.3}
    runs = [
        finished(tmp_path / "runs" / "stage2", "stage2", stage2, best_method="pcam"),
        finished(tmp_path / "runs" / "stage3", "stage3", stage3, teacher_method="pcam"),
    ]
    page = compare_runs(runs)
    assert rows(page, "CAM methods")[-2][:2] == ["human ceiling (tune split)", "0.600 [0.500, 0.700]"]
    assert rows(page, "Detector")[-2][:2] == ["human ceiling (tune split)", "0.600 [0.500, 0.700]"]
    report = read_report(page.parent)
    assert report is not None
    own = next(b for b in report.blocks if b.title == "AP40 per finding · stage3")
    assert own.columns == [
        "finding", "detector", "CAM teacher: PCAM", "human ceiling (tune split)", "prior: mean box"
    ]  # fmt: skip
    assert own.rows == [["Edema", 0.4, 0.3, 0.6, None]]


def test_runs_side_by_side_name_their_teacher_where_they_share_it(tmp_path: Path) -> None:
    runs = [
        finished(tmp_path / "r" / name, "stage3", DETECTOR | {"ap40/teacher": ap}, teacher_method=method)
        for name, ap, method in (("a", 0.3, "pcam"), ("b", 0.2, "pcam"), ("c", 0.1, "layercam"))
    ]
    shared = rows(compare_runs(runs[:2], out=tmp_path / "two"), "AP40 of the runs")
    assert shared[1] == ["CAM teacher: PCAM", 0.3, 0.2]
    others = rows(compare_runs(runs, out=tmp_path / "three"), "AP40 of the runs")
    assert others[1] == ["CAM teacher", 0.3, 0.2, 0.1]


def test_guessing_classifier_is_called_that(tmp_path: Path) -> None:
    """AUROC .52 at an accuracy of .78, as of the source's pneumothorax classifier."""
    metrics = {"auroc/mean": 0.52, "auroc/edema": 0.52, "auroc/edema/low": 0.46, "auroc/edema/high": 0.58}
    metrics |= {"accuracy/edema": 0.78, "positives/edema": 22.0}
    metrics |= {"tp/edema": 1.0, "fp/edema": 1.0, "fn/edema": 21.0, "tn/edema": 77.0}
    page = compare_runs([finished(tmp_path / "a", "stage1", metrics)], out=tmp_path / "out")
    assert "Edema: AUROC .52 [.46, .58] is what guessing gives; the accuracy of .78" in page.read_text()


def test_classifier_without_a_verdict_says_what_its_mean_excludes(chain: list[Path]) -> None:
    html = compare_runs(chain).read_text()
    assert "over 1 of 2 findings. Excluded from the mean: Nodule/Mass (no positive label)." in html


def test_verdict_of_a_classifier_is_its_own(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", "stage1", CLASSIFIER, verdict="Good for edema alone.")
    html = compare_runs([run], out=tmp_path / "out").read_text()
    assert "Good for edema alone." in html
    assert "Excluded from the mean" not in html


def test_chosen_method_and_detector_stand_out(chain: list[Path]) -> None:
    report = read_report(compare_runs(chain).parent)
    assert report is not None
    marked = {b.title.split(" ·")[0]: b.highlight for b in report.blocks if hasattr(b, "highlight")}
    assert marked["CAM methods"] == 0
    assert marked["Detector"] == 0


def test_differences_are_no_methods() -> None:
    assert box_names(DETECTOR) == ["detector", "teacher", "prior_mean_box"]


def test_pictures_of_the_runs_are_embedded(chain: list[Path]) -> None:
    save_png(chain[0] / "pictures" / "curves.png", np.zeros((4, 6, 3), dtype=np.uint8))
    gone = save_png(chain[0] / "gone.png", np.zeros((4, 6, 3), dtype=np.uint8))
    figures = [Figure("Training curves", "pictures/curves.png"), Figure("Gone", "gone.png")]
    write_report(chain[0], title="S1", lead="", blocks=figures, synthetic=True)
    gone.unlink()
    page = compare_runs(chain)
    report = read_report(page.parent)
    assert report is not None
    assert Figure("Training curves", "stage1/pictures/curves.png", collapsed=True) in report.blocks
    assert "Gone" not in [block.title for block in report.blocks]
    assert "Synthetic phantom data" in page.read_text()


def test_real_data_has_no_banner(chain: list[Path]) -> None:
    assert "Synthetic phantom data" not in compare_runs(chain).read_text()


def test_manifest_alone_makes_the_banner(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", "stage1", CLASSIFIER, synthetic=True)
    assert "Synthetic phantom data" in compare_runs([run]).read_text()


def test_runs_of_one_stage_stand_side_by_side(tmp_path: Path) -> None:
    first = finished(tmp_path / "one" / "stage1", "stage1", CLASSIFIER)
    second = start_run(tmp_path / "two" / "stage1", stage="stage1", settings=Nothing(), inputs={})
    second.finish({"auroc/mean": 0.7, "auroc/fracture": 0.7}, {}, findings=["Fracture"])
    page = compare_runs([first, second.dir])
    assert page.resolve() == tmp_path / "report.html"
    assert rows(page, "AUROC of the runs of stage1") == [
        ["mean", 0.85, 0.7],
        ["Edema", 0.85, None],
        ["Nodule/Mass", None, None],
        ["Fracture", None, 0.7],
    ]
    assert "their means cannot be compared" in page.read_text()


def test_searches_show_the_tables_of_their_own_reports(tmp_path: Path) -> None:
    metrics = {"comparisons": 2.0, "real": 1.0, "real_after_holm": 0.0, "heads/pcam/auroc": 0.9}
    ablation = finished(tmp_path / "ablation", "ablation", metrics)
    tables = [Table("heads", ["variant", "AUROC"], [["pcam", 0.9]]), Table("seeds", ["variant"], [["0"]])]
    write_report(ablation, title="", lead="", blocks=[Text("Reading"), *tables], synthetic=False)
    sweeps = [finished(tmp_path / name, "sweep", CLASSIFIER) for name in ("one", "two")]
    page = compare_runs([ablation, *sweeps])
    report = read_report(tmp_path)
    assert report is not None
    found = {b.title: [list(row) for row in b.rows] for b in report.blocks if isinstance(b, Table)}
    assert list(found) == ["heads · ablation", "seeds · ablation", "sweep · one", "sweep · two"]
    assert found["heads · ablation"] == [["pcam", 0.9]]
    assert found["sweep · one"][0][0] == f"no report in {sweeps[0]}; run the command of that run again"
    assert "Ablation: 2 comparisons, 1 significant, 0 after Holm&#39;s correction" in page.read_text()


def test_all_problems_are_told_at_once(tmp_path: Path, chain: list[Path]) -> None:
    start_run(tmp_path / "begun", stage="stage1", settings=Nothing(), inputs={})
    with pytest.raises(UserError) as refused:
        compare_runs([chain[0], chain[0], tmp_path / "begun", tmp_path / "gone"], out=tmp_path / "out")
    twice, begun, gone = refused.value.problems
    assert "given twice" in twice
    assert "is not finished" in begun
    assert "is not a run folder" in gone
    assert not (tmp_path / "out").exists()


def test_a_run_without_figures_is_refused(tmp_path: Path, chain: list[Path]) -> None:
    folder = finished(tmp_path / "found", "predictions", {"images": 3.0})
    with pytest.raises(UserError) as caught:
        compare_runs([*chain, folder])
    assert caught.value.problems == [
        f"run {folder}: is a run of predictions, expected one of stage1, stage2, stage3, ablation, sweep, study; "
        "leave it out"
    ]


def test_report_of_a_run_is_never_overwritten(chain: list[Path]) -> None:
    inner = finished(chain[0] / "inner", "stage1", CLASSIFIER)
    with pytest.raises(UserError, match="is the folder of a run"):
        compare_runs([inner])


def test_command_line(chain: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(chain[0].parents[2])
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["compare", *(f"runs/demo/stage{n}" for n in (1, 2, 3))]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("report: runs/demo/report.html\n")
    assert printed.count("┌") == 1
    assert "PCAM (chosen)" in printed


def test_command_line_tells_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
