"""The audit reads whatever can be read: splits that leak, sets with problems, every kind of data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError, parse_settings
from eval.audit.checks import audit_data
from eval.audit.reading import CONFIGURED, RELEASED, AuditedData, read_audited
from eval.audit.settings import AuditSettings, load_audit_settings
from eval.audit.summary import audit_figures, checks_of
from tests.builders import (
    chexpert_folder,
    csv_folder,
    csv_settings,
    kaggle_folder,
    kermany_folder,
    nih_folder,
    physionet_folder,
    tbx11k_folder,
)
from tests.cxr.datasets.release_builders import (
    chestxdet_folder,
    chexlocalize_folder,
    mimic_folder,
    openi_folder,
    padchest_folder,
    rsna_folder,
    siim_folder,
    spr_folder,
)

OFFICIAL = {"kind": "official", "names": {"train": "train", "val": "valid", "test": "test"}}
WHOLE = {"kind": "patients", "fractions": {"train": 1.0}}


def settings_of(data: Mapping[str, Any], **changes: Any) -> AuditSettings:
    return parse_settings(AuditSettings, {"data": data, **changes}, source="test")


def kermany(root: Path, **changes: Any) -> AuditedData:
    """The data set of `kermany_folder`; person1 is in train and test."""
    data = {"dataset": "kermany", "root": kermany_folder(root, twin=True), "duplicates": "exclude"}
    return read_audited(settings_of(data, **changes))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image"):
        read_audited(settings_of({"dataset": "kermany", "root": tmp_path}))


def test_splits_that_share_patients_are_kept(tmp_path: Path) -> None:
    audited = kermany(tmp_path, split=OFFICIAL)
    assert list(audited.divisions) == [CONFIGURED]  # the same as that of the release
    assert {name: len(ids) for name, ids in audited.splits.items()} == {"train": 2, "val": 1, "test": 2}


def test_the_split_of_the_release_is_audited_beside_that_of_the_settings(tmp_path: Path) -> None:
    audited = kermany(tmp_path, split=WHOLE)
    assert list(audited.divisions) == [CONFIGURED, RELEASED]
    assert {name: len(ids) for name, ids in audited.divisions[RELEASED].items()} == {"train": 2, "valid": 1, "test": 2}
    assert list(kermany(tmp_path).divisions) == [RELEASED]


def test_identical_files_are_kept(tmp_path: Path) -> None:
    assert len(kermany(tmp_path).data.images) == 5


def test_what_the_release_lacks_is_a_problem_and_no_end(tmp_path: Path) -> None:
    wrong = {"kind": "official", "names": {"train": "train", "test": "holdout"}}
    audited = kermany(tmp_path, split=wrong, findings=["Fracture", "Pneumonia"])
    assert audited.findings == ("Pneumonia",)
    assert list(audited.divisions) == [RELEASED]
    assert ["Fracture" in text or "holdout" in text for text in audited.problems] == [True, True]


def test_a_finding_that_is_listed_twice_is_shown_once_and_named(tmp_path: Path) -> None:
    audited = kermany(tmp_path, findings=["Pneumonia", "Pneumonia"])
    assert audited.findings == ("Pneumonia",)
    assert ["Pneumonia" in text for text in audited.problems] == [True]


def test_a_set_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    good = {"dataset": "kermany", "root": kermany_folder(tmp_path / "good")}
    sets = {"good": good, "gone": {"dataset": "nih", "root": tmp_path / "gone"}}
    audited = read_audited(settings_of({"dataset": "several", "sets": sets}, split=OFFICIAL))
    assert audited.data.images["set"].unique().tolist() == ["good"]
    assert [text.startswith("gone: ") for text in audited.problems] == [True]
    with pytest.raises(UserError, match=r"x: .*\n.*y: "):
        both = {name: {"dataset": "kermany", "root": tmp_path / "gone"} for name in "xy"}
        read_audited(settings_of({"dataset": "several", "sets": both}))


def test_other_keys_of_stage_1_are_ignored_but_not_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "stage1.yaml"
    path.write_text("data: {dataset: kermany, root: x}\nbackbone: {name: resnet18}\n", encoding="utf-8")
    assert load_audit_settings(path, ["data.root=y"]).data.root == Path("y")  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"backbone\.name"):
        load_audit_settings(path, ["backbone.name=resnet50"])


SETS: list[tuple[str, Callable[[Path], Path], dict[str, int]]] = [
    ("chexpert", chexpert_folder, {"rows": 3, "patients": 3, "boxes": 0}),
    ("mimic", mimic_folder, {"rows": 2, "patients": 2, "boxes": 0}),
    ("padchest", padchest_folder, {"rows": 2, "patients": 2, "boxes": 0}),
    ("openi", openi_folder, {}),
    ("nih", nih_folder, {"rows": 3, "patients": 2, "boxes": 2}),
    ("rsna", rsna_folder, {"rows": 3, "patients": 0, "boxes": 2}),
    ("siim", siim_folder, {"rows": 2, "patients": 0, "boxes": 2}),
    ("chestxdet", chestxdet_folder, {"rows": 3, "patients": 0, "boxes": 2}),
    ("chexlocalize", chexlocalize_folder, {"rows": 2, "patients": 2, "boxes": 2}),
    ("vindr", kaggle_folder, {"rows": 3, "patients": 0, "boxes": 3}),
    ("vindr", physionet_folder, {"rows": 2, "patients": 0, "boxes": 2}),
    ("tbx11k", tbx11k_folder, {"rows": 3, "patients": 0, "boxes": 1}),
    ("kermany", kermany_folder, {"rows": 5, "patients": 4, "boxes": 0}),
    ("spr", spr_folder, {}),
]


@pytest.mark.parametrize(("dataset", "build", "expected"), SETS, ids=[f"{s[0]} {s[1].__name__}" for s in SETS])
def test_every_data_set_has_an_audit(
    tmp_path: Path, dataset: str, build: Callable[[Path], Path], expected: dict[str, int]
) -> None:
    root = build(tmp_path / "release")
    view = {"view": "all"} if dataset == "openi" else {}
    settings = settings_of({"dataset": dataset, "root": root, **view})
    figures = audit_figures(audit_data(settings, cache_dir=tmp_path / "cache"))
    assert {name: figures[name] for name in expected} == expected
    assert figures["images"] == figures["rows"] > 0
    assert (figures["missing_files"], figures["broken_files"]) == (0, 0)


def test_broken_files_of_an_own_table_are_no_copies(tmp_path: Path) -> None:
    """The reader itself takes two empty files for copies."""
    rows = [(f"p3/{name}.png", "p3", "PA", "f", 40, 0, 1) for name in ("copy", "empty", "void")]
    root = csv_folder(tmp_path / "own", rows=rows)
    (root / "p3").mkdir()
    (root / "p3/copy.png").write_bytes((root / "p1/a.png").read_bytes())
    for name in ("empty", "void"):
        (root / f"p3/{name}.png").touch()
    settings = settings_of({"dataset": "csv_table", **csv_settings(root)})
    figures = audit_figures(audit_data(settings, cache_dir=tmp_path / "cache"))
    expected = {"rows": 5, "images": 3, "broken_files": 2, "identical_files": 1, "excluded": {}}
    assert {name: figures[name] for name in expected} == expected


def test_unknown_patients_are_no_sign_of_sound_splits(tmp_path: Path) -> None:
    root = tbx11k_folder(tmp_path / "release")
    settings = settings_of({"dataset": "tbx11k", "root": root}, split=WHOLE)
    audit = audit_data(settings, cache_dir=tmp_path / "cache")
    assert audit_figures(audit)["crossing_patients"] == {CONFIGURED: None, RELEASED: None}
    results = {check.what: (check.number, check.result) for check in checks_of(audit)}
    assert results[f"patients in two splits of the {CONFIGURED}"] == (None, "not checked")
    assert results["images without a known patient"] == (3, "look")


def test_several_sets_have_one_audit(tmp_path: Path) -> None:
    own = csv_settings(csv_folder(tmp_path / "own"))
    sets = {
        "own": {"dataset": "csv_table", **own},
        "kermany": {"dataset": "kermany", "root": kermany_folder(tmp_path / "kermany")},
    }
    settings = settings_of({"dataset": "several", "sets": sets})
    figures = audit_figures(audit_data(settings, cache_dir=tmp_path / "cache"))
    assert {name: figures[name] for name in ("rows", "images", "patients", "boxes")} == {
        "rows": 7, "images": 7, "patients": 6, "boxes": 1,
    }  # fmt: skip
    assert figures["crossing_patients"] == {RELEASED: 1}
    assert figures["labels"]["pneumonia"]["not asked"] == 2
