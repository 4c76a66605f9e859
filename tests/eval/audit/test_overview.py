"""eval.audit.overview: every table on cases small enough to count by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.tables import NOT_ASKED, Dataset, Exclusion, empty_boxes, image_table
from eval.audit.overview import (
    age_bands,
    audit_blocks,
    co_occurrence,
    co_occurrence_figure,
    data_facts,
    finding_counts,
    finding_table,
    images_per_patient,
    labels_per_image,
    set_tables,
)
from eval.report.blocks import Figure, Table, write_report

NAN = float("nan")
FINDINGS = ("Edema", "Fracture")


def data_set(
    labels: Sequence[Sequence[float]], findings: Sequence[str] = FINDINGS, **columns: Sequence[object]
) -> Dataset:
    """A data set with these labels; its images are named a, b, c, ...; nothing else is known of them."""
    ids = [chr(ord("a") + row) for row in range(len(labels))]
    facts = {name: pd.Series(list(values)) for name, values in columns.items()}
    images = image_table(image_id=pd.Series(ids, dtype=str), path=pd.Series(ids, dtype=str), **facts)
    values = np.array(labels, dtype=np.float64).reshape(len(labels), len(findings))
    table = pd.DataFrame(values, index=pd.Index(ids, dtype=str), columns=list(findings))
    excluded = (Exclusion("z", "no file"), Exclusion("y", "no file"))
    return Dataset("tiny", Path(), images, table, empty_boxes(), excluded, counts={"ages unknown": 2})


def test_a_data_set_without_images_has_an_audit(tmp_path: Path) -> None:
    blocks = audit_blocks(data_set([]), FINDINGS, tmp_path)
    write_report(tmp_path, title="Audit", lead="", blocks=blocks, synthetic=False)
    assert [type(block) for block in blocks] == [Table, Table, Figure, Figure]
    facts = {row[0]: row[1] for row in blocks[0].rows}
    assert facts["images"] == 0
    assert facts["patients known"] == 0
    assert blocks[1].rows[0] == ["Edema", 0, 0, 0, 0, None]


def test_labels_are_counted_by_kind() -> None:
    data = data_set([[1, 0], [-1, NAN], [-1, 0], [-1, 0], [1, -1]])
    counts = finding_counts(data.labels)
    assert counts.loc["Edema"].tolist() == [2, 0, 3, 0, 1.5]
    assert counts.loc["Fracture"].tolist()[:4] == [0, 3, 1, 1]
    assert np.isnan(counts.loc["Fracture", "uncertainty ratio"])
    assert finding_table(data.labels).rows == [["Edema", 2, 0, 3, 0, "150 %"], ["Fracture", 0, 3, 1, 1, None]]


def test_co_occurrence_is_the_phi_coefficient() -> None:
    # Both 2, only the first 1, only the second 1, neither 4.
    data = data_set([[1, 1]] * 2 + [[1, 0], [-1, 1]] + [[0, 0]] * 2 + [[0, NAN], [-1, -1]])
    phi = co_occurrence(data.labels).to_numpy()
    expected = (2 * 4 - 1 * 1) / np.sqrt(3 * 5 * 3 * 5)
    np.testing.assert_allclose(phi, [[1, expected], [expected, 1]])
    np.testing.assert_allclose(phi, np.corrcoef((data.labels == 1).to_numpy().T.astype(float)))


def test_the_note_on_grey_cells_is_there_where_there_are_any(tmp_path: Path) -> None:
    """The diagonal is always blank, so it does not count."""
    full, constant = data_set([[1, 0], [0, 1], [1, 1]]).labels, data_set([[1, 0], [0, 0]]).labels
    notes = [co_occurrence_figure(labels, tmp_path).note for labels in (full, constant)]
    assert ["Grey" in note for note in notes] == [False, True]


def test_a_finding_that_never_varies_has_no_co_occurrence() -> None:
    phi = co_occurrence(data_set([[1, 0], [0, 0], [1, 0]]).labels).to_numpy()
    np.testing.assert_array_equal(np.isnan(phi), [[False, True], [True, True]])


def test_labels_per_image_count_positive_findings_but_not_no_finding() -> None:
    data = data_set([[1, 0, 0], [0, 1, 1], [0, -1, NAN], [0, 0, 1]], ["No Finding", *FINDINGS])
    assert labels_per_image(data.labels).to_dict() == {0: 2, 1: 1, 2: 1}
    assert labels_per_image(data_set([]).labels).to_dict() == {0: 0}


def test_images_per_patient_leave_unknown_patients_out() -> None:
    images = data_set([[0, 0]] * 6, patient_id=["p", "q", "p", "", "p", ""]).images
    assert images_per_patient(images).to_dict() == {1: 1, 2: 0, 3: 1}
    assert images_per_patient(data_set([[0, 0]]).images).empty


def test_ages_are_counted_by_band_and_sex() -> None:
    images = data_set([[0, 0]] * 5, age=[9.5, 10, 29, 21, NAN], sex=["F", "F", "", "F", "M"]).images
    bands = age_bands(images)
    assert bands.index.tolist() == [0, 10, 20]
    assert {name: bands[name].tolist() for name in bands} == {"female": [1, 1, 1], "sex unknown": [0, 0, 1]}
    assert age_bands(data_set([[0, 0]]).images).empty


def test_facts_name_what_is_unknown_changed_and_left_out() -> None:
    data = data_set(
        [[0, 0]] * 4,
        patient_id=["p", "p", "q", ""],
        study_id=["1", "1", "", ""],
        view=["frontal", "lateral", "frontal", ""],
        sex=["F", "M", "", ""],
        age=[40, 60, NAN, NAN],
    )
    assert data_facts(data).rows == [
        ["images", 4, None],
        ["patients known", 2, None],
        ["without a known patient", 1, "25.0 %"],
        ["studies known", 1, None],
        ["without a known study", 2, "50.0 %"],
        ["view: frontal", 2, "50.0 %"],
        ["view: lateral", 1, "25.0 %"],
        ["view: unknown", 1, "25.0 %"],
        ["female", 1, "25.0 %"],
        ["male", 1, "25.0 %"],
        ["sex unknown", 2, "50.0 %"],
        ["median age in years", "50", None],
        ["age unknown", 2, "50.0 %"],
        ["ages unknown", 2, None],
        ["excluded: no file", 2, None],
    ]


def test_charts_without_content_are_left_out(tmp_path: Path) -> None:
    one = audit_blocks(data_set([[1], [0]], ["Edema"]), ["Edema"], tmp_path / "one")
    assert [block.title for block in one if isinstance(block, Figure)] == ["Labels per image"]
    full = data_set([[1, 0], [0, 1]], patient_id=["p", "q"], age=[20, 30], sex=["F", "M"])
    titles = [block.title for block in audit_blocks(full, FINDINGS, tmp_path) if isinstance(block, Figure)]
    assert titles == ["Findings that occur together", "Labels per image", "Images per patient", "Ages"]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4


def test_only_the_findings_asked_for_are_audited(tmp_path: Path) -> None:
    blocks = audit_blocks(data_set([[1, 1], [0, 1]]), ["Fracture"], tmp_path)
    assert blocks[1].rows == [["Fracture", 2, 0, 0, 0, "0 %"]]


def test_findings_that_were_not_asked_are_counted_apart_and_correlate_only_where_they_were() -> None:
    rows = [[1, 1], [1, 0], [0, 0], [0, 0]]
    apart = data_set([*rows, [1, NOT_ASKED], [NOT_ASKED, 1]])
    assert finding_table(apart.labels).rows == [["Edema", 3, 2, 0, 0, 1, "0 %"], ["Fracture", 2, 3, 0, 0, 1, "0 %"]]
    both = co_occurrence(data_set(rows).labels).loc["Edema", "Fracture"]
    assert co_occurrence(apart.labels).loc["Edema", "Fracture"] == pytest.approx(both)
    assert both == pytest.approx(1 / 3**0.5)


def test_each_data_set_has_its_counts() -> None:
    data = data_set(
        [[1, NOT_ASKED], [-1, NOT_ASKED], [NAN, 0]], set=["north", "north", "south"], patient_id=["1", "1", ""]
    )
    sizes, labels = set_tables(data, FINDINGS, {"train": ["a", "c"], "test": ["b"]})
    assert sizes.rows == [["north", 2, 1, 1, 1], ["south", 1, 0, 1, 0]]
    assert labels.rows == [
        ["Edema", "north", 1, 0, 1, 0, 0],
        ["Edema", "south", 0, 0, 0, 1, 0],
        ["Fracture", "north", None, None, None, None, 2],
        ["Fracture", "south", 0, 1, 0, 0, 0],
    ]
    assert set_tables(data_set([[1, 0]]), FINDINGS, {}) == []
