"""PadChest's reader: lists of labels, of which only some are findings of ours."""

import math
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.padchest import BAD_LABELS, NO_LABELS, UNREAD, PadchestData
from tests.builders import Row
from tests.cxr.datasets.release_builders import padchest_folder


def row(labels: str, *, projection: str = "PA") -> Row:
    return ("d.png", 3, 20140101, "s3", "p3", 1990, "M", projection, labels)


def positive(root: Path, image_id: str) -> list[str]:
    labels = PadchestData(root=root, view="all").read().labels.loc[image_id]
    assert set(labels) <= {0, 1}
    return labels[labels == 1].index.tolist()


def test_labels_and_facts(tmp_path: Path) -> None:
    data = PadchestData(root=padchest_folder(tmp_path)).read()
    assert data.images["path"].tolist() == ["0/a.png", "12/c.png"]
    assert data.images["patient_id"].tolist() == ["p1", "p2"]
    assert data.images["sex"].tolist() == ["F", "M"]
    assert data.images["age"][0] == 64
    assert math.isnan(data.images["age"][1])
    assert positive(tmp_path, "a") == ["Cardiomegaly", "Pleural Effusion"]
    assert positive(tmp_path, "c") == ["No Finding"]
    assert data.counts == {"images excluded by `view: frontal`": 1, "labels without a finding of ours: scoliosis": 1}


LABELS = {
    "two findings in one": ("['hydropneumothorax']", ["Pneumothorax", "Pleural Effusion"]),
    "kinds of one finding": ("['laminar atelectasis', 'lobar atelectasis']", ["Atelectasis"]),
    "nothing of ours": ("['scoliosis']", []),
    "unchanged, and a finding": ("['unchanged', 'nodule']", ["Nodule"]),
    "a blank name": ("['', 'mass ']", ["Mass"]),
}


@pytest.mark.parametrize("case", LABELS)
def test_what_labels_mean(tmp_path: Path, case: str) -> None:
    text, findings = LABELS[case]
    assert positive(padchest_folder(tmp_path, rows=[row(text)]), "d") == findings


UNREADABLE = {
    **dict.fromkeys(["", "nan", "[]", "['']"], NO_LABELS),
    **dict.fromkeys(["['unchanged']", "['exclude', 'nodule']", "['suboptimal study']"], UNREAD),
}


@pytest.mark.parametrize(("text", "reason"), UNREADABLE.items())
def test_images_that_nobody_read_are_named(tmp_path: Path, text: str, reason: str) -> None:
    data = PadchestData(root=padchest_folder(tmp_path, rows=[row(text)])).read()
    assert [(item.what, item.reason) for item in data.excluded] == [("d.png", reason)]
    assert data.images["image_id"].tolist() == ["a", "c"]


@pytest.mark.parametrize("text", ["cardiomegaly", "['cardiomegaly'", "{'nodule': 1}", "['nodule', 3]", "[" * 9999])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    root = padchest_folder(tmp_path, rows=[row(text)])
    with pytest.raises(UserError, match=BAD_LABELS):
        PadchestData(root=root).read()
    data = PadchestData(root=root, on_problem="exclude").read()
    assert data.images["image_id"].tolist() == ["a", "c"]


@pytest.mark.parametrize("projection", ["COSTAL", "EXCLUDE", "", "pa"])
def test_other_projections_are_no_frontal_view(tmp_path: Path, projection: str) -> None:
    root = padchest_folder(tmp_path, rows=[row("['nodule']", projection=projection)])
    assert len(PadchestData(root=root).read().images) == 2
    assert PadchestData(root=root, view="all").read().images["view"].tolist()[3] == ""


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no PADCHEST_chest"):
        PadchestData(root=tmp_path).read()
