"""Rules of several methods whose boxes are fused."""

import numpy as np

from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.fused_rule import FusedRule, find_boxes, fused_rules, single_rules

LOW, HIGH = ComponentRule("relative", 0.2), ComponentRule("relative", 0.5)


def lit(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    maps = np.zeros((1, *shape), dtype=np.float32)
    maps[0, rows, columns] = 1
    return maps


def test_one_method_keeps_its_rules() -> None:
    assert fused_rules([(LOW, HIGH)]) == (LOW, HIGH)
    assert single_rules(LOW) == (LOW,)


def test_rules_of_several_methods_are_joined_by_finding() -> None:
    both = fused_rules([(LOW, HIGH), (HIGH, HIGH)])
    assert both == (FusedRule((LOW, HIGH)), FusedRule((HIGH, HIGH)))
    assert fused_rules([both, (LOW, LOW)])[0] == FusedRule((LOW, HIGH, LOW))
    assert both[0].as_dict()["rules"] == f"{LOW}; {HIGH}"


def test_maps_without_evidence_have_no_boxes() -> None:
    nothing = np.zeros((2, 4, 6), dtype=np.float32)
    assert len(find_boxes(FusedRule((HIGH, HIGH)), [nothing, nothing])) == 0


def test_each_method_has_its_rule_and_its_map_of_any_size() -> None:
    """Both maps show the same place, the second on a grid that is twice as fine."""
    coarse, fine = lit((4, 6), slice(1, 3), slice(1, 4)), lit((8, 12), slice(2, 6), slice(2, 8))
    alone = HIGH.find(coarse)
    np.testing.assert_allclose(alone.boxes, [[1 / 6, 1 / 4, 4 / 6, 3 / 4]])
    fused = find_boxes(FusedRule((HIGH, HIGH)), [coarse, fine])
    np.testing.assert_allclose(fused.boxes, alone.boxes)
    assert fused.evidence.tolist() == [1]
    half = find_boxes(FusedRule((HIGH, HIGH)), [coarse, np.zeros_like(fine)])
    np.testing.assert_allclose(half.boxes, alone.boxes)
    assert half.evidence.tolist() == [0.5]
