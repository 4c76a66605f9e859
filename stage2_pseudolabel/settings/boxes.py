"""Settings of the box rules. All combinations are tried on the tune split, per finding."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["relative", "absolute", "percentile", "otsu", "bayes"]
Background = Literal["none", "negatives"]
Contrast = Literal["mean", "ring"]


class BoxSettings(Settings):
    """Which box rules are tried."""

    renamed: ClassVar[Mapping[str, str]] = {"bayes_likeness": "bayes_similarities"}

    rules: list[Kind] = Field(["relative", "absolute", "percentile", "otsu", "bayes"], min_length=1)
    """Kinds of rules. The first four use connected components above a threshold. relative: a share of the map's
    maximum. absolute: a value (a quantile of the finding's maps on the tune split), so that a weak map gives no box.
    percentile: a percentile of the map. otsu: Otsu's threshold of the map. bayes: the boxes of the tune split are
    candidates, scored by the map inside them (boxes/bayes.py)."""
    background: list[Background] = Field(["none", "negatives"], min_length=1)
    """negatives: subtract the mean map of the tune images without the finding first."""
    relative_thresholds: list[Share] = [0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75]
    """Thresholds of the relative rules."""
    absolute_quantiles: list[Share] = [0.8, 0.88, 0.93, 0.96, 0.98]
    """Quantiles that give the thresholds of the absolute rules."""
    percentiles: list[Share] = [0.7, 0.8, 0.88, 0.94, 0.97]
    """Thresholds of the percentile rules, as shares."""
    otsu_factors: list[Annotated[float, Field(gt=0, le=4)]] = [0.7, 1.0, 1.3]
    """Multiples of Otsu's threshold."""
    bayes_betas: list[Annotated[float, Field(ge=0, le=100)]] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """Weights of the evidence. 0: the rule ignores the map."""
    bayes_contrasts: list[Contrast] = Field(["mean", "ring"], min_length=1)
    """Evidence of a candidate box. mean: the mean of the standardised map inside. ring: minus the mean of the ring
    around."""
    bayes_similarities: list[Annotated[float, Field(ge=0, le=100)]] = Field([0.0, 3.0], min_length=1)
    """Weights of the similarity term, relative to the contrast's 1: the correlation between the map and the map of the
    image that a candidate comes from. Candidates from similar images count more."""
    max_candidates: PositiveInt = 200
    """Most candidates of a Bayes rule per finding."""
    max_boxes: list[PositiveInt] = Field([1, 2, 3, 5, 10], min_length=1)
    """Most boxes per image and finding, strongest first. Later boxes have low scores: they cost little average
    precision and find lesions that the first box misses."""
    min_area: float = Field(0.002, ge=0, lt=1)
    """Components with a smaller box are dropped (share of the area of the network's input)."""

    @model_validator(mode="after")
    def _has_candidates(self) -> "BoxSettings":
        lists: dict[str, list[float]] = {
            "relative": self.relative_thresholds,
            "absolute": self.absolute_quantiles,
            "percentile": self.percentiles,
            "otsu": self.otsu_factors,
            "bayes": self.bayes_betas,
        }
        empty = [name for name in self.rules if not lists[name]]
        if empty:
            raise ValueError(f"the rule {empty[0]!r} has no values to try; list some or remove it from `rules`")
        return self
