import pytest

from cxr.config import UserError
from cxr.labels import (
    CHEXPERT_NAMES,
    FINDINGS,
    KERMANY_NAMES,
    NIH_NAMES,
    PARENTS,
    TBX11K_NAMES,
    VINDR_NAMES,
    ancestors,
    check_findings,
    class_slugs,
    map_names,
    slug,
)

MAPPINGS = {
    "chexpert": CHEXPERT_NAMES,
    "vindr": VINDR_NAMES,
    "nih": NIH_NAMES,
    "tbx11k": TBX11K_NAMES,
    "kermany": KERMANY_NAMES,
}


def test_findings_are_unique_and_so_are_their_slugs() -> None:
    assert len(set(FINDINGS)) == len(FINDINGS)
    assert len({slug(name) for name in FINDINGS}) == len(FINDINGS)


@pytest.mark.parametrize("name", MAPPINGS)
def test_every_mapping_leads_to_a_canonical_finding(name: str) -> None:
    assert set(MAPPINGS[name].values()) <= set(FINDINGS)


def test_vindr_has_28_labels_under_both_spellings() -> None:
    assert len(set(VINDR_NAMES.values())) == 28
    assert VINDR_NAMES["Other disease"] == VINDR_NAMES["Other diseases"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Nodule/Mass", "nodule_mass"),
        ("No Finding", "no_finding"),
        ("", ""),
        ("Épanchement_pleural", "epanchement_pleural"),
        ("肺炎", "肺炎"),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_map_names_of_nothing_is_empty() -> None:
    assert map_names([], VINDR_NAMES, source="table") == {}


def test_map_names_names_every_unknown_one_with_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        map_names(["Nodule/mass", "Cardiomegaly", "Zebra"], VINDR_NAMES, source="table.csv")
    first, second = error.value.problems
    assert "'Nodule/mass'" in first
    assert "nearest: 'Nodule/Mass'" in first
    assert "'Zebra'" in second
    assert "nearest" not in second


def test_check_findings_tells_unknown_and_repeated_ones() -> None:
    with pytest.raises(UserError) as error:
        check_findings(["Edema", "Edema", "Edemas"], ["Edema"], source="findings")
    assert len(error.value.problems) == 2


def test_the_tree_is_of_canonical_findings_and_ends() -> None:
    assert {*PARENTS, *PARENTS.values()} <= set(FINDINGS)
    for finding in PARENTS:
        path = [finding]
        while path[-1] in PARENTS:
            path.append(PARENTS[path[-1]])
            assert len(set(path)) == len(path)


def test_the_tree_holds_chexperts() -> None:
    assert PARENTS["Pneumonia"] == "Consolidation"
    assert PARENTS["Cardiomegaly"] == "Enlarged Cardiomediastinum"
    children = {child for child, parent in PARENTS.items() if parent == "Lung Opacity"}
    assert {"Edema", "Consolidation", "Lung Lesion", "Atelectasis"} <= children
    assert "No Finding" not in {*PARENTS, *PARENTS.values()}


def test_ancestors_nearest_first() -> None:
    assert ancestors("Lung Opacity") == []
    assert ancestors("Pneumonia") == ["Consolidation", "Lung Opacity"]
    assert ancestors("Pneumonia", {}) == []
    assert ancestors("a", {"a": "b", "b": "a"}) == ["b", "a"]


def test_class_slugs_are_unique_and_never_the_end_of_an_interval() -> None:
    names = ["Nodule/Mass", "nodule mass", "low", "?!"]
    slugs = ["nodule_mass", "nodule_mass_2", "low_3", "class_4"]
    assert class_slugs(names) == dict(zip(names, slugs, strict=True))
