"""Open-i's reader: MeSH terms as labels, views from a table."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.openi import BAD_PROJECTION, BAD_XML, UNREAD, OpeniData
from cxr.datasets.text_cells import ages_between
from cxr.tables import Problems
from tests.builders import write_rows
from tests.cxr.datasets.release_builders import openi_folder, openi_xml
from tests.paths import SAMPLES, needs_samples


def test_frontal_images_by_the_table_of_views(tmp_path: Path) -> None:
    data = OpeniData(root=openi_folder(tmp_path), projections="projections.csv").read()
    assert data.images["path"].tolist() == ["NLMCXR_png/CXR1_1_IM-0001-4001.png", "NLMCXR_png/CXR2_IM-0652-1001.png"]
    assert data.images["patient_id"].tolist() == ["1", "2"]
    assert data.labels["No Finding"].tolist() == [1, 0]
    assert data.labels["Cardiomegaly"].tolist() == [0, 1]
    assert data.labels.to_numpy().sum() == 2
    assert data.counts == {"images excluded by `view: frontal`": 2, "labels without a finding of ours: spine": 2}


def test_views_need_their_table(tmp_path: Path) -> None:
    root = openi_folder(tmp_path)
    with pytest.raises(UserError, match="needs `projections`"):
        OpeniData(root=root).read()
    assert OpeniData(root=root, view="all").read().images["view"].tolist() == [""] * 4
    write_rows(root / "projections.csv", ("filename", "projection"), [("1_IM-0001-4001.dcm.png", "PA")])
    with pytest.raises(UserError, match=BAD_PROJECTION):
        OpeniData(root=root, projections="projections.csv").read()


def test_a_report_that_is_not_indexed_is_named(tmp_path: Path) -> None:
    reports = {"2": openi_xml(2, ["No Indexing"], ["CXR2_IM-0652-1001"]), "3": openi_xml(3, [], ["CXR2_IM-0652-2001"])}
    data = OpeniData(root=openi_folder(tmp_path, reports=reports), view="all").read()
    assert {(item.what, item.reason) for item in data.excluded} == {
        ("CXR2_IM-0652-1001", UNREAD),
        ("CXR2_IM-0652-2001", UNREAD),
    }
    assert len(data.images) == 2


@pytest.mark.parametrize("text", ["", "<eCitation>", "<eCitation/>", '<eCitation><uId id=""/></eCitation>'])
def test_a_report_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    root = openi_folder(tmp_path, reports={"2": text})
    with pytest.raises(UserError, match=r"2\.xml .*unreadable report"):
        OpeniData(root=root, view="all").read()
    data = OpeniData(root=root, view="all", on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [BAD_XML]
    assert len(data.images) == 2


def test_two_folders_of_reports_are_refused(tmp_path: Path) -> None:
    root = openi_folder(tmp_path)
    (root / "older" / "ecgen-radiology").mkdir(parents=True)
    with pytest.raises(UserError, match="both hold reports"):
        OpeniData(root=root, view="all").read()


def test_no_reports(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder ecgen-radiology"):
        OpeniData(root=tmp_path, view="all").read()
    (tmp_path / "ecgen-radiology").mkdir()
    with pytest.raises(UserError, match="no image is left"):
        OpeniData(root=tmp_path, view="all").read()


def test_the_age_is_full_on_the_birthday() -> None:
    problems = Problems("error", source="test")
    born, taken = np.array([19550820.0] * 3 + [np.nan]), np.array([20110819.0, 20110820.0, 19550101.0, 20110820.0])
    assert ages_between(born, taken, problems, per_year=10_000).fillna(-1).tolist() == [55, 56, -1, -1]
    assert list(problems.counts.values()) == [1]


@needs_samples
def test_headers_of_the_release_give_the_age(tmp_path: Path) -> None:
    reports = {"3": openi_xml(1000, ["normal"], ["CXR1000_IM-0003-2001"])}
    table = SAMPLES / "openi_nlmcxr_dicom_metadata.csv"
    data = OpeniData(
        root=openi_folder(tmp_path, reports=reports), view="all", metadata=table, check_files="none"
    ).read()
    facts = data.images.set_index("image_id").loc["CXR1000_IM-0003-2001"]
    assert (facts["age"], facts["sex"], facts["patient_id"]) == (55, "", "1000")
