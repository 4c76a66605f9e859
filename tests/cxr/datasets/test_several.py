"""Several data sets as one: names, masks, splits and what each set keeps of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from cxr.config import Settings, UserError, load_config, parse_settings
from cxr.datasets import AnyData, CsvTableData, SeveralData, make_splits, parts_of
from cxr.splits import SplitSettings, check_no_leak, save_splits
from cxr.tables import NOT_ASKED
from tests.builders import write_picture, write_rows

NAN = float("nan")
HALVES = {"kind": "patients", "fractions": {"train": 0.5, "test": 0.5}}
PATIENTS = [str(number) for number in range(1, 9)]


class Holder(Settings):
    data: AnyData
    split: SplitSettings = SplitSettings(kind="patients", fractions={"train": 1.0})


def hospital(root: Path, findings: dict[str, list[object]], *, split: str = "", missing: str = "") -> dict[str, Any]:
    """Settings of a hospital with an image for each of PATIENTS; a box of the first finding by R1 in the first one."""
    names = [f"i{number}" for number in range(len(PATIENTS))]
    for name in names:
        if name != missing:
            write_picture(root / "files" / f"{name}.png")
    rows = [
        [f"files/{name}.png", PATIENTS[row], f"s{row}", split, *(values[row] for values in findings.values())]
        for row, name in enumerate(names)
    ]
    write_rows(root / "images.csv", ["path", "patient", "study", "split", *findings], rows)
    first = next(iter(findings))
    write_rows(root / "boxes.csv", ["path", "finding", "x1", "y1", "x2", "y2", "reader"],
               [["files/i0.png", first, 1, 2, 30, 20, "R1"]])  # fmt: skip
    return {
        "dataset": "csv_table",
        "root": str(root),
        "table": "images.csv",
        "columns": {"image": "path", "patient": "patient", "study": "study", "split": "split"},
        "findings": {name: name for name in findings},
        "boxes": {"table": "boxes.csv", "image": "path", "finding": "finding", "reader": "reader",
                  "x1": "x1", "y1": "y1", "x2": "x2", "y2": "y2"},
    }  # fmt: skip


NORTH = {"Edema": [1, 0, -1, "", 0, 0, 0, 0], "Fracture": [0] * 8}
SOUTH = {"Pneumonia": [0, 1] * 4, "Edema": [1] * 8}


@pytest.fixture
def two(tmp_path: Path) -> SeveralData:
    sets = {"north": hospital(tmp_path / "n", NORTH), "south": hospital(tmp_path / "a" / "s", SOUTH)}
    return parse_settings(SeveralData, {"sets": sets}, source="test")


def test_each_name_begins_with_its_set_and_each_path_leads_to_its_file(two: SeveralData, tmp_path: Path) -> None:
    data = two.read()
    assert (data.name, data.root) == ("north + south", tmp_path)
    assert data.images["set"].tolist() == ["north"] * 8 + ["south"] * 8
    columns = ["image_id", "path", "patient_id", "study_id"]
    assert data.images.loc[[0, 8], columns].to_numpy().tolist() == [
        ["north/files/i0", "n/files/i0.png", "north/1", "north/s0"],
        ["south/files/i0", "a/s/files/i0.png", "south/1", "south/s0"],
    ]
    assert all((data.root / path).is_file() for path in data.images["path"])
    assert data.boxes[["image_id", "finding", "reader"]].to_numpy().tolist() == [
        ["north/files/i0", "Edema", "north/R1"],
        ["south/files/i0", "Pneumonia", "south/R1"],
    ]
    assert data.boxed == {"north": {"Edema"}, "south": {"Pneumonia"}}


def test_what_a_set_does_not_label_is_not_asked_and_what_it_does_stays(two: SeveralData) -> None:
    labels = two.read().labels
    assert labels.columns.tolist() == ["Edema", "Fracture", "Pneumonia"]
    np.testing.assert_array_equal(labels["Edema"], [1, 0, -1, NAN, 0, 0, 0, 0, *[1] * 8])
    np.testing.assert_array_equal(labels["Fracture"], [0] * 8 + [NOT_ASKED] * 8)
    np.testing.assert_array_equal(labels["Pneumonia"], [NOT_ASKED] * 8 + [0, 1] * 4)


def test_the_parts_are_the_sets_as_they_are_read_alone(two: SeveralData) -> None:
    parts = parts_of(two.read())
    assert list(parts) == ["north", "south"]
    for name, own in two.sets.items():
        alone, part = own.model_copy(update={"name": name}).read(), parts[name]
        assert part.name == alone.name == name
        pd.testing.assert_frame_equal(part.images.drop(columns="path"), alone.images.drop(columns="path"))
        pd.testing.assert_frame_equal(part.labels[list(alone.findings)], alone.labels)
    alone = two.sets["north"].read()
    assert list(parts_of(alone)) == ["csv_table"]


def test_a_set_is_split_as_in_a_run_of_its_own(two: SeveralData) -> None:
    """Patient 1 of one hospital may be in another split than patient 1 of the other."""
    common = parse_settings(SplitSettings, HALVES, source="test")
    own = parse_settings(SplitSettings, {**HALVES, "seed": 1}, source="test")
    settings = two.model_copy(update={"splits": {"south": own}})
    data = settings.read()
    splits = make_splits(data, common, settings)
    check_no_leak(data, splits)
    for name, split in (("north", common), ("south", own)):
        alone = split.make(two.sets[name].read())
        for part in ("train", "test"):
            kept = [i.removeprefix(f"{name}/") for i in splits[part] if i.startswith(f"{name}/")]
            assert kept == alone[part]
    patient = data.images.set_index("image_id")["patient_id"]
    train = {patient[i].partition("/")[2] for i in splits["train"]}
    assert train & {patient[i].partition("/")[2] for i in splits["test"]}


def test_a_file_has_the_splits_of_all_sets(two: SeveralData, tmp_path: Path) -> None:
    data, path = two.read(), tmp_path / "splits.json"
    splits = make_splits(data, parse_settings(SplitSettings, HALVES, source="test"), two)
    save_splits(path, splits)
    same = parse_settings(SplitSettings, {"kind": "file", "file": str(path)}, source="test")
    assert make_splits(data, same, two) == splits
    with pytest.raises(UserError, match=r"remove `data\.splits` or `split\.file`"):
        make_splits(data, same, two.model_copy(update={"splits": {"south": same}}))


def test_findings_that_a_set_does_not_label_need_no_patients_there(two: SeveralData) -> None:
    """South is not asked for Fracture; north has one patient with Edema and none with Fracture."""
    south = two.model_copy(update={"findings": {"south": ["Pneumonia"]}})
    values = {"kind": "patients", "patients_per_finding": {"test": 2}}
    split = parse_settings(SplitSettings, values, source="test")
    settings = south.model_copy(update={"splits": {"north": parse_settings(SplitSettings, HALVES, source="test")}})
    splits = make_splits(settings.read(), split, settings)
    assert sum(image_id.startswith("south/") for image_id in splits["test"]) == 2
    with pytest.raises(UserError, match="Edema: 1 patients") as caught:
        make_splits(south.read(), split, south)
    assert "Fracture: 0 patients" in caught.value.problems[1]


def test_a_set_may_have_no_part_in_a_split(two: SeveralData, tmp_path: Path) -> None:
    settings = parse_settings(
        SeveralData,
        {
            "sets": {"north": hospital(tmp_path / "n", NORTH, split="fit"), "south": hospital(tmp_path / "a", SOUTH)},
            "splits": {"north": {"kind": "official", "names": {"train": "fit"}}},
        },
        source="test",
    )
    splits = make_splits(settings.read(), parse_settings(SplitSettings, HALVES, source="test"), settings)
    assert {image_id.partition("/")[0] for image_id in splits["test"]} == {"south"}
    assert len(splits["train"]) + len(splits["test"]) == 16


def test_findings_of_a_set_can_be_left_out(two: SeveralData) -> None:
    """Its labels count as not asked, its boxes as not marked."""
    data = two.model_copy(update={"findings": {"north": ["Fracture"]}}).read()
    np.testing.assert_array_equal(data.labels["Edema"], [NOT_ASKED] * 8 + [1] * 8)
    assert data.boxes["image_id"].tolist() == ["south/files/i0"]
    assert data.boxed == {"north": set(), "south": {"Pneumonia"}}
    with pytest.raises(UserError, match=r"data\.findings\.north: finding 'Fractur'.*nearest: 'Fracture'"):
        two.model_copy(update={"findings": {"north": ["Fractur"]}}).read()


def test_each_set_has_its_own_rule_for_problems(tmp_path: Path) -> None:
    sets = {"north": hospital(tmp_path / "n", NORTH, missing="i7"), "south": hospital(tmp_path / "s", SOUTH)}
    with pytest.raises(UserError, match=r"files/i7\.png: missing image"):
        parse_settings(SeveralData, {"sets": sets}, source="test").read()
    sets["north"]["on_problem"] = "exclude"
    settings = parse_settings(SeveralData, {"sets": sets}, source="test")
    data = settings.read()
    assert [(item.what, item.reason) for item in data.excluded] == [("north/files/i7.png", "missing image")]
    assert settings.on_problem == {"north": "exclude", "south": "error"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"sets": {}}, "at least 2", id="none"),
        pytest.param({"splits": {"nort": HALVES}}, "'nort' is none of the sets.*nearest: 'north'", id="split"),
        pytest.param({"findings": {"sout": ["Edema"]}}, "'sout' is none of the sets.*nearest: 'south'", id="findings"),
        pytest.param({"sets": {"a/b": {}, "c": {}}}, "pattern", id="slash"),
    ],
)
def test_wrong_settings_are_named(two: SeveralData, change: dict[str, Any], message: str) -> None:
    values = two.model_dump(mode="json") | change
    with pytest.raises(UserError, match=message):
        parse_settings(SeveralData, values, source="test")


def test_the_key_is_the_name_of_a_set(tmp_path: Path) -> None:
    north, south = hospital(tmp_path / "n", NORTH), hospital(tmp_path / "s", SOUTH)
    with pytest.raises(UserError, match="the key is the set's name"):
        parse_settings(SeveralData, {"sets": {"north": {**north, "name": "south"}, "south": south}}, source="test")


def test_one_key_of_one_set_can_be_overridden(two: SeveralData, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(Holder(data=two).model_dump_json(exclude_defaults=False))
    loaded = load_config(Holder, path, ["data.sets.north.max_images=3"]).data
    assert isinstance(loaded, SeveralData)
    assert [len(part.images) for part in parts_of(loaded.read()).values()] == [3, 8]


def test_relative_roots_give_a_relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("data/n", "data/s", "../else"):
        hospital(Path(name), NORTH)
    near = {name: hospital(Path("data") / name, NORTH) for name in ("n", "s")}
    assert parse_settings(SeveralData, {"sets": near}, source="test").read().root == Path("data")
    far = {"n": near["n"], "e": hospital(Path("../else"), NORTH)}
    assert parse_settings(SeveralData, {"sets": far}, source="test").read().root == tmp_path


def test_a_single_set_may_have_a_name(tmp_path: Path) -> None:
    settings = hospital(tmp_path, NORTH)
    assert TypeAdapter(AnyData).validate_python(settings).read().name == "csv_table"
    assert CsvTableData.model_validate({**settings, "name": "north"}).read().name == "north"
