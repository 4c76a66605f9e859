"""Places from reports: which cells of a map and which boxes they leave, and what is exported then."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.tables import Dataset
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.pseudolabels.export import NO_BOX, ExportRules, PseudoLabels
from stage2_pseudolabel.pseudolabels.report_places import PlaceGate, load_gate
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings, ReportPlaceSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import LIT_BOX, exported, lit_maps, training_set
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

LESION, EFFUSION = FINDINGS
CORNERS = ["x1", "y1", "x2", "y2"]


def places(
    folder: Path, *rows: str, labels: str = "0,i0.png\n1,x/i1.png\n2,i2.png\n", **changes: object
) -> ReportPlaceSettings:
    (folder / "sides.csv").write_text("report_id,finding,side,zone\n" + "".join(f"{row}\n" for row in rows))
    (folder / "labels.csv").write_text(f"report_id,file\n{labels}")
    values = {"sides": folder / "sides.csv", "labels": folder / "labels.csv", "image": "file"}
    return ReportPlaceSettings.model_validate(values | changes)


def gated(data: Dataset, maps: np.ndarray, gate: PlaceGate) -> PseudoLabels:
    """As `exported`, with a gate."""
    return exported(data, maps, settings=ExportRules(PseudoLabelSettings(), gate))


def test_no_place_gates_nothing(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 1]])
    gate = load_gate(places(tmp_path), data)
    assert gate.regions == {}
    free = exported(data, lit_maps(2))
    assert gated(data, lit_maps(2), gate).coco.boxes.equals(free.coco.boxes)


def test_regions_by_hand(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 1], [0, 1]])
    rows = [
        f"0,{LESION},L,",
        f"1,{LESION},R,lower",
        f"1,{EFFUSION},B,",
        f"2,{EFFUSION},L,upper",
        f"2,{EFFUSION},R,upper",
    ]
    gate = load_gate(places(tmp_path, *rows, f"9,{LESION},L,"), data)
    assert {key: region.tolist() for key, region in gate.regions.items()} == {
        ("i0", LESION): [[0.45, 0, 1, 1]],
        ("i1", LESION): [[0, 0.4, 0.55, 1]],
        ("i1", EFFUSION): [[0, 0, 1, 1]],
        ("i2", EFFUSION): [[0.45, 0, 1, 0.55], [0, 0, 0.55, 0.55]],
    }
    sides = load_gate(places(tmp_path, *rows, zones=False, margin=0.0), data)
    assert sides.regions["i1", LESION].tolist() == [[0, 0, 0.5, 1]]


def test_maps_outside_a_place_are_at_their_minimum(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 0]])
    gate = PlaceGate({("i0", LESION): np.array([[0.5, 0.0, 1.0, 0.5]])})
    maps = np.arange(48, dtype=np.float32).reshape(2, 4, 6) + 5
    images = data.images[["image_id"]].assign(width=60, height=40)
    masked = gate.masked(maps, images, LESION, frame=Frame((32, 48), False))
    expected = np.full((4, 6), 5.0)
    expected[:2, 3:] = maps[0, :2, 3:]
    assert masked[0].tolist() == expected.tolist()
    assert masked[1].tolist() == maps[1].tolist()
    assert maps[0, 3, 5] == 28  # unchanged
    assert gate.masked(maps, images, EFFUSION, frame=Frame((32, 48), False)).tolist() == maps.tolist()


def test_letterboxed_maps_are_cut_where_the_image_is(tmp_path: Path) -> None:
    """A wide image fills the middle rows of a square input: its upper half are rows 2 and 3 of 8."""
    data = training_set(tmp_path, [[1, 0]])
    gate = PlaceGate({("i0", LESION): np.array([[0.0, 0.0, 1.0, 0.5]])})
    images = data.images[["image_id"]].assign(width=80, height=40)
    maps = np.ones((1, 8, 8), dtype=np.float32)
    maps[0, 7, 7] = 0
    masked = gate.masked(maps, images, LESION, frame=Frame((32, 32), True))
    assert masked[0].sum(axis=1).tolist() == [0, 0, 8, 8, 0, 0, 0, 0]


def test_a_finding_on_the_left_has_its_best_box_there(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 1]])
    maps = lit_maps(1)
    maps[0, :, 2, 4:] = 0.4  # weaker than half of the maximum: no box unless the rest is cut
    gate = load_gate(places(tmp_path, f"0,{LESION},L,"), data)
    boxes = gated(data, maps, gate).coco.boxes
    assert boxes["finding"].tolist() == [LESION, EFFUSION]
    np.testing.assert_allclose(boxes[CORNERS].to_numpy(float), [[40, 20, 60, 30], LIT_BOX])


def test_an_affirmed_finding_without_a_box_in_its_place_is_ignored_in_the_whole_image(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 0]])
    gate = load_gate(places(tmp_path, f"0,{LESION},L,"), data)
    pseudo = gated(data, lit_maps(2), gate)
    assert pseudo.coco.boxes[["image_id", "ignored_by"]].to_numpy().tolist() == [["i0", NO_BOX], ["i1", ""]]
    assert pseudo.coco.boxes.loc[0, CORNERS].tolist() == [0, 0, 60, 40]


@pytest.mark.parametrize(
    ("rows", "changes", "word"),
    [
        ([f"0,{LESION},left,"], {}, "'left'"),
        ([f"0,{LESION},L,base"], {}, "'base'"),
        ([], {"labels": "0,other.png\n"}, "i0.png"),
        ([], {"image": "path"}, "'path'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, rows: list[str], changes: dict[str, str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        load_gate(places(tmp_path, *rows, **changes), training_set(tmp_path, [[1, 0]]))


def test_an_image_with_two_reports_is_named(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 1]])
    twice = "0,i0.png\n1,i1.png\n0,x/i0.png\n"
    assert load_gate(places(tmp_path, f"0,{LESION},L,", labels=twice), data).regions.keys() == {("i0", LESION)}
    with pytest.raises(UserError, match=r"'i0\.png' has the reports '0' and '9'"):
        load_gate(places(tmp_path, f"0,{LESION},L,", labels=f"{twice}9,i0.png\n"), data)
