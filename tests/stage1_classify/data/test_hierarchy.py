import numpy as np
import pytest

from cxr.config import UserError
from cxr.labels import BUILT_IN, Terminology
from stage1_classify.data.hierarchy import Hierarchy, make_hierarchy, with_tree
from stage1_classify.settings.classifier import HierarchySettings
from tests.stage1_classify.stage1_builders import targets

NAN = float("nan")
PATH = ["Pneumonia", "Lung Opacity", "Consolidation"]
"""Three levels, the grandchild first."""


def tree(*findings: str, **settings: object) -> Hierarchy:
    return make_hierarchy(HierarchySettings.model_validate({"enabled": True, **settings}), findings)


def test_parents_are_columns_of_the_listed_findings() -> None:
    assert tree(*PATH).parent_of == (2, -1, 1)


def test_a_parent_that_is_not_listed_is_passed_over() -> None:
    assert tree("Lung Opacity", "Pneumonia", "Fracture").parent_of == (-1, 0, -1)
    assert tree("Pneumonia", "Consolidation").parent_of == (1, -1)


def test_the_users_parents_replace_the_tree() -> None:
    assert tree("Edema", "Lung Opacity", parents={"Lung Opacity": "Edema"}).parent_of == (-1, 0)


def test_multiply_follows_the_path() -> None:
    got = tree(*PATH).multiply(np.array([[0.5, 0.8, 0.25], [1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(got, [[0.5 * 0.25 * 0.8, 0.8, 0.25 * 0.8], [0, 0, 0]])


def test_multiply_leaves_its_argument_alone() -> None:
    given = np.full((1, 3), 0.5)
    tree(*PATH).multiply(given)
    assert (given == 0.5).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 0, 0], [1, 1, 1]),
        ([0, 0, 1], [0, 1, 1]),
        ([0, 1, 0], [0, 1, 0]),
        ([1, NAN, -1], [1, 1, 1]),
        ([0, NAN, -1], [0, NAN, -1]),
        ([NAN, 0, -1], [NAN, 0, -1]),
        ([0.7, 0.2, 0.4], [0.7, 0.7, 0.7]),
        ([0.3, 0.2, 0.4], [0.3, 0.4, 0.4]),
        ([0.7, NAN, -1], [0.7, NAN, -1]),
        ([1, 0, NAN], [1, 1, 1]),
        ([-1, 0.5, 1], [-1, 1, 1]),
    ],
)
def test_a_parent_is_at_least_its_children(given: list[float], expected: list[float]) -> None:
    """Pneumonia, Lung Opacity, Consolidation."""
    np.testing.assert_array_equal(tree(*PATH).propagate(targets(given)), targets(expected))


def test_a_parent_takes_the_highest_of_several_children() -> None:
    siblings = tree("Lung Opacity", "Edema", "Atelectasis")
    np.testing.assert_array_equal(siblings.propagate(targets([0, 0.6, 0.8])), targets([0.8, 0.6, 0.8]))
    np.testing.assert_array_equal(siblings.propagate(targets([0, 0.8, 0.6])), targets([0.8, 0.8, 0.6]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([0, 1, 1], [0, 1, 1]),
        ([0, 1, 0], [NAN, 1, 0]),
        ([0, 0, 0], [NAN, 0, NAN]),
        ([0, NAN, 1], [0, NAN, NAN]),
        ([0, -1, 1], [0, -1, NAN]),
        ([0.2, 0.5, 0.5], [0.2, 0.5, 0.5]),
        ([0.2, 0.4, 0.4], [NAN, 0.4, NAN]),
        ([-1, 1, 1], [-1, 1, 1]),
    ],
)
def test_children_of_what_is_not_positive_are_masked(given: list[float], expected: list[float]) -> None:
    """Pneumonia, Lung Opacity, Consolidation."""
    np.testing.assert_array_equal(tree(*PATH).conditional(targets(given)), targets(expected))


def test_targets_given_stay_as_they_are() -> None:
    given = targets([1, 0, 0])
    tree(*PATH).propagate(given)
    tree(*PATH).conditional(given)
    np.testing.assert_array_equal(given, targets([1, 0, 0]))


def test_no_rows() -> None:
    assert tree(*PATH).multiply(np.zeros((0, 3))).shape == (0, 3)
    assert tree(*PATH).propagate(np.zeros((0, 3), np.float32)).dtype == np.float32
    assert tree(*PATH).conditional(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_a_disabled_tree_changes_nothing() -> None:
    plain = make_hierarchy(HierarchySettings(), PATH)
    given = targets([1, 0, NAN], [0.5, -1, 1])
    assert plain.parent_of == (-1, -1, -1)
    np.testing.assert_array_equal(plain.multiply(given.astype(np.float64)), given)
    np.testing.assert_array_equal(plain.propagate(given), given)
    np.testing.assert_array_equal(plain.conditional(given), given)


def test_the_tree_is_the_label_files_unless_settings_give_one() -> None:
    own = Terminology(("Air", "Leak"), {"Leak": "Air"}, {"Luft": "Air"})
    assert with_tree(HierarchySettings(), own).parents == {"Leak": "Air"}
    assert with_tree(HierarchySettings(parents={"Leak": "Zebra"}), own).parents == {"Leak": "Zebra"}
    assert with_tree(HierarchySettings(parents={"Zebra": "Luft"}), own).parents == {"Zebra": "Air"}
    with pytest.raises(UserError, match=r"hierarchy.parents: finding 'Edem' is probably 'Edema'"):
        with_tree(HierarchySettings(parents={"Edem": "Lung Opacity"}), BUILT_IN)


@pytest.mark.parametrize("enabled", [True, False])
def test_circles_are_named(enabled: bool) -> None:
    circle = {"Mass": "Edema", "Edema": "Nodule", "Nodule": "Hernia", "Hernia": "Edema"}
    with pytest.raises(UserError) as error:
        tree("Edema", enabled=enabled, parents=circle)
    (problem,) = error.value.problems
    assert "Edema > Nodule > Hernia > Edema is a cycle" in problem


def test_nothing_is_its_own_parent() -> None:
    with pytest.raises(UserError, match="Edema > Edema is a cycle"):
        tree("Edema", parents={"Edema": "Edema"})


def test_a_tree_without_an_edge_is_refused() -> None:
    with pytest.raises(UserError, match="none of Edema, Fracture has a parent among them"):
        tree("Edema", "Fracture")
