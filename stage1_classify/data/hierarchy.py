"""Parents and children among the findings: conditional probabilities, and targets that agree with the tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Float32s, Floats
from cxr.config import UserError
from cxr.labels import PARENTS, Terminology, cycles
from stage1_classify.settings.classifier import HierarchySettings


@dataclass(frozen=True)
class Hierarchy:
    """parent_of: per finding the column of its nearest listed ancestor, -1 if it has none."""

    parent_of: tuple[int, ...]

    def multiply(self, probabilities: Floats) -> Floats:
        """Multiply P(child) by the probabilities of its ancestors. From (N, K) in [0, 1] to the same."""
        product = probabilities.copy()
        for child in self._parents_first():
            product[:, child] *= product[:, self.parent_of[child]]
        return product

    def propagate(self, targets: Float32s) -> Float32s:
        """Raise the targets of parents to those of their children. From (N, K) to the same, NaN masked, -1 uncertain.

        A known parent becomes the maximum of its own and its child's target, also for soft targets. A masked or
        uncertain parent becomes 1 only where a child is 1. A masked or uncertain child does not change its parent.
        """
        raised = targets.copy()
        for child in reversed(self._parents_first()):
            column, below = raised[:, self.parent_of[child]], raised[:, child]
            higher = np.where(column >= 0, below > column, below == 1)
            column[higher] = below[higher]
        return raised

    def conditional(self, targets: Float32s) -> Float32s:
        """Mask children whose parent is not positive (below 0.5, masked or uncertain). From (N, K) to the same."""
        masked = targets.copy()
        for child in self._parents_first():
            masked[~(targets[:, self.parent_of[child]] >= 0.5), child] = np.nan
        return masked

    def _parents_first(self) -> list[int]:
        """The findings with a parent, sorted so that parents precede their children."""
        return sorted((child for child, parent in enumerate(self.parent_of) if parent >= 0), key=self._depth)

    def _depth(self, finding: int) -> int:
        parent = self.parent_of[finding]
        return 0 if parent < 0 else 1 + self._depth(parent)


def with_tree(settings: HierarchySettings, terms: Terminology) -> HierarchySettings:
    """The settings with the tree of the label file, unless they give one. UserError for names that seem misspelt."""
    if settings.parents is None:
        return settings.model_copy(update={"parents": dict(terms.parents)})
    edges = settings.parents.items()
    names = terms.names_in((name for edge in edges for name in edge), source="hierarchy.parents")
    parents = {names[child]: names[parent] for child, parent in edges if {child, parent} <= names.keys()}
    return settings.model_copy(update={"parents": parents})


def make_hierarchy(settings: HierarchySettings, findings: Sequence[str]) -> Hierarchy:
    """The tree of `findings`. It has no edges if `enabled` is false.

    Raises:
        UserError: `parents` has a cycle, or no finding has an ancestor among `findings`.
    """
    parents = PARENTS if settings.parents is None else settings.parents
    _check_parents(parents)
    if not settings.enabled:
        return Hierarchy((-1,) * len(findings))
    column = {finding: index for index, finding in enumerate(findings)}
    parent_of = tuple(column.get(_listed_ancestor(finding, parents, column), -1) for finding in findings)
    if set(parent_of) == {-1}:
        raise UserError(
            f"hierarchy.enabled: none of {', '.join(findings)} has a parent among them; list the parents in "
            "`findings`, give hierarchy.parents, or set enabled: false"
        )
    return Hierarchy(parent_of)


def _listed_ancestor(finding: str, parents: Mapping[str, str], listed: Mapping[str, int]) -> str:
    """The nearest ancestor that is listed, or ""."""
    ancestor = parents.get(finding, "")
    while ancestor and ancestor not in listed:
        ancestor = parents.get(ancestor, "")
    return ancestor


def _check_parents(parents: Mapping[str, str]) -> None:
    problems = [
        f"hierarchy.parents: {' > '.join(cycle)} is a cycle; remove one of these parents" for cycle in cycles(parents)
    ]
    if problems:
        raise UserError(problems)
