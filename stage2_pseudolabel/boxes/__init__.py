"""From maps to boxes: `ComponentRule` finds the boxes of one class in the maps of many images."""

from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.rule import Found

__all__ = ["ComponentRule", "Found"]
