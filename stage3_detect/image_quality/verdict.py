"""The verdict on an image: whether it is suited to the detector, and if not, why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

GateMode = Literal["off", "warn", "abstain"]
"""off: images are not checked. warn: boxes and reasons are shown. abstain: reasons are shown, and no box."""

DEFAULT_MODE: GateMode = "abstain"

SENTENCES = {
    "small": "The image is small; details may be missing.",
    "strip": "The image is a strip; a part of the chest may be missing.",
    "no_contrast": "The image has hardly any contrast.",
    "clipped": "Much of the image is plain black or white; check the exposure or the export.",
    "inverted": "The image seems to be inverted: bone should be bright.",
    "rotated": "The image seems to be rotated by 90 degrees.",
    "upside_down": "The image seems to be upside down.",
    "overexposed": "The image seems to be overexposed: much of it is dark.",
    "underexposed": "The image seems to be underexposed: much of it is bright and without detail.",
    "cropped": "The image seems to show a part of the chest only.",
    "lateral": "The image seems to be a lateral view.",
    "child": "The image seems to show a child.",
    "not_chest": "The image does not look like a frontal chest radiograph.",
    "unlike": "The image is unlike those on which the detector was trained.",
}
"""Reason -> what people read."""


@dataclass(frozen=True)
class Quality:
    """The verdict on one image.

    ok: nothing speaks against it. reasons: a sentence for each problem. codes: their keys in `SENTENCES`. abstains: the
    detector gives no result. statistics, features: numbers about the image, for drift; without personal content. gate:
    identity of the gate's reference, "" without one.
    """

    ok: bool
    reasons: tuple[str, ...]
    codes: tuple[str, ...] = ()
    abstains: bool = False
    statistics: Mapping[str, float] = field(default_factory=dict)
    features: tuple[float, ...] = ()
    gate: str = ""

    @classmethod
    def of(cls, codes: Sequence[str], mode: GateMode = "warn") -> Self:
        """The verdict with these reasons, none for a good image."""
        sentences = tuple(SENTENCES[code] for code in codes)
        return cls(not codes, sentences, tuple(codes), abstains=bool(codes) and mode == "abstain")

    def record(self) -> dict[str, Any]:
        """The verdict, with the names that the service answers, and the numbers for `eval/run.py drift`, for JSON."""
        said = {"ok": self.ok, "reasons": list(self.reasons), "codes": list(self.codes), "abstained": self.abstains}
        numbers = {"statistics": dict(self.statistics), "features": list(self.features), "gate": self.gate}
        return {**said, **numbers}
