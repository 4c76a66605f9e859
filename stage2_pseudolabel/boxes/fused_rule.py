"""The box rules of several CAM methods whose boxes are fused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stage2_pseudolabel.boxes.fusion import FUSION_IOU, fuse_methods
from stage2_pseudolabel.boxes.rule import Found, Maps, Rule


@dataclass(frozen=True)
class FusedRule:
    """The rules of several methods for one finding, in the order of the methods; see `fuse_methods`."""

    rules: tuple[Rule, ...]
    kind: ClassVar[str] = "fused"

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {"rule": "fused", "kind": self.kind, "iou": FUSION_IOU, "rules": str(self)}

    def __str__(self) -> str:
        return "; ".join(str(rule) for rule in self.rules)


AnyRule = Rule | FusedRule
"""What turns the maps of one method, or of several, into boxes of one finding."""


def single_rules(rule: AnyRule) -> tuple[Rule, ...]:
    """The rule of each method; one for a rule that is not fused."""
    return rule.rules if isinstance(rule, FusedRule) else (rule,)


def fused_rules(by_method: Sequence[Sequence[AnyRule]]) -> tuple[AnyRule, ...]:
    """(K,) rules that fuse the boxes of M methods, from the (K,) rules of each; one method keeps its own rules."""
    if len(by_method) == 1:
        return tuple(by_method[0])
    by_finding = zip(*by_method, strict=True)
    return tuple(FusedRule(tuple(one for rule in rules for one in single_rules(rule))) for rules in by_finding)


def find_boxes(rule: AnyRule, maps: Sequence[Maps], *, patients: Sequence[str] | None = None) -> Found:
    """Boxes of one finding.

    maps: (N, h, w) by each method of the rule, in its order; sizes may differ. patients: see `Rule.find`.
    """
    rules = single_rules(rule)
    return fuse_methods([one.find(own, patients=patients) for one, own in zip(rules, maps, strict=True)])
