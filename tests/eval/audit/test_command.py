"""`eval/run.py audit` as people run it: on a leaking and damaged release, and on boxes that contradict the labels."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr.cli import EXIT_DONE, EXIT_USER
from eval.audit.reading import CONFIGURED
from eval.report.blocks import Table, read_report
from eval.run import main
from tests.builders import csv_folder, csv_settings, kermany_folder
from tests.eval.audit.audit_builders import write_texture


def audited(folder: Path, data: dict[str, Any], **settings: Any) -> tuple[int, Path]:
    """The exit code, and the folder of the report. The settings have further keys of stage 1."""
    config = folder / "experiment" / "stage1.yaml"
    config.parent.mkdir(exist_ok=True)
    whole = {"data": data, "input": {"size_hw": [32, 48], "cache_dir": str(folder / "cache")}, "head": {"kind": "pcam"}}
    config.write_text(yaml.safe_dump(whole | settings, sort_keys=False), encoding="utf-8")
    return main(["audit", str(config), "--out", str(folder / "out")]), folder / "out"


def figures_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return content


def rows_of(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_image_and_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = audited(tmp_path, {"dataset": "kermany", "root": str(tmp_path)})
    assert code == EXIT_USER
    assert "no image" in capsys.readouterr().err
    out.mkdir()
    (out / "started.json").touch()
    assert audited(tmp_path, {"dataset": "kermany", "root": str(kermany_folder(tmp_path / "data"))})[0] == EXIT_USER
    assert [path.name for path in out.iterdir()] == ["started.json"]


def test_a_leaking_and_damaged_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = kermany_folder(tmp_path / "data", twin=True)
    broken = root / "test/NORMAL/IM-0001-0001-0002.jpeg"
    broken.write_bytes(broken.read_bytes()[:100])
    names = {"train": "train", "val": "valid", "test": "test"}
    code, out = audited(
        tmp_path,
        {"dataset": "kermany", "root": str(root), "duplicates": "exclude"},
        split={"kind": "official", "names": names},
        findings=["Pneumonia"],
    )
    assert code == EXIT_DONE
    figures = figures_of(out)
    expected = {"rows": 5, "images": 4, "patients": 4, "boxes": 0, "broken_files": 1, "identical_files": 1}
    assert {name: figures[name] for name in expected} == expected
    assert figures["splits"] == {CONFIGURED: {"train": 2, "val": 1, "test": 2}}
    assert figures["crossing_patients"] == figures["crossing_copies"] == {CONFIGURED: 1}
    assert figures["labels"]["pneumonia"]["positive"] == 2
    assert rows_of(out, "crossing_patients") == [
        {"division": CONFIGURED, "patient": "person1", "splits": "train and test", "images": "2"}
    ]
    assert [row["what"] for row in rows_of(out, "problems")] == ["test/NORMAL/IM-0001-0001-0002.jpeg"]
    report = read_report(out)
    assert report is not None
    checks = next(block for block in report.blocks if isinstance(block, Table) and block.title == "Checks")
    results = {str(row[0]): row[1:3] for row in checks.rows}
    assert results["broken files"] == [1, "error"]
    assert results["missing files"] == [0, "ok"]
    assert results["findings with one kind of label in a split"] == [1, "look"]  # val has no pneumonia
    assert results["boxes that look wrong"] == results["suspicious labels"] == [None, "not checked"]
    assert f"{out / 'report.html'}" in capsys.readouterr().out


def test_boxes_and_missing_files_of_a_table(tmp_path: Path) -> None:
    """One box is in an image without the finding, one file is missing, two files show the same in two sizes."""
    rows = [(f"p3/{name}.png", "p3", "PA", "f", 40, 0, 1) for name in ("c", "d", "gone")]
    boxes = [("p3/c.png", "effusion", 20, 30, 80, 90)]
    root = csv_folder(tmp_path / "data", rows=rows, boxes=boxes)
    write_texture(root / "p3/c.png", 0, (120, 160))
    write_texture(root / "p3/d.png", 0, (60, 80))
    data = {"dataset": "csv_table", **csv_settings(root), "root": str(root)}
    code, out = audited(tmp_path, data)
    assert code == EXIT_DONE
    figures = figures_of(out)
    expected = {"rows": 5, "images": 4, "patients": 3, "boxes": 2, "missing_files": 1, "similar_pairs": 1, "splits": {}}
    assert {name: figures[name] for name in expected} == expected
    flags = figures["boxes_by_finding"]["pleural_effusion"]
    assert (flags["boxes"], flags["label_says_no"], flags["positives_without_box"]) == (2, 1, 0)
    assert rows_of(out, "copies")[0]["kind"] == "same picture"
    assert [row["label says no"] for row in rows_of(out, "suspicious_boxes")] == ["True"]
    assert (out / "pictures" / "suspicious_boxes.jpg").is_file()
