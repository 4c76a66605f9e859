"""Settings of the way from maps to boxes. Every combination is tried on the tune split, a finding at a time."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["relative", "absolute", "percentile", "otsu", "bayes"]
Background = Literal["none", "negatives"]
Contrast = Literal["mean", "ring"]
Merge = Literal["none", "wbf"]


class BoxSettings(Settings):
    renamed: ClassVar[Mapping[str, str]] = {"bayes_likeness": "bayes_similarities"}

    rules: list[Kind] = Field(["relative", "absolute", "percentile", "otsu", "bayes"], min_length=1)
    """Components above: relative, shares of the map's own maximum; absolute, values of the map (quantiles of the
    finding's map values over the tune split, so that a weak map gives no box); percentile, the map's own percentiles;
    otsu, the map's own threshold between two kinds of cells. bayes: the tune split's boxes as candidates, weighed by
    the map inside them (boxes/bayes.py)."""
    background: list[Background] = Field(["none", "negatives"], min_length=1)
    """negatives: the mean map of the tune images without the finding is taken away first."""
    relative_thresholds: list[Share] = [0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75]
    absolute_quantiles: list[Share] = [0.8, 0.88, 0.93, 0.96, 0.98]
    percentiles: list[Share] = [0.7, 0.8, 0.88, 0.94, 0.97]
    otsu_factors: list[Annotated[float, Field(gt=0, le=4)]] = [0.7, 1.0, 1.3]
    """Multiples of Otsu's threshold."""
    bayes_betas: list[Annotated[float, Field(ge=0, le=100)]] = [
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
        1.5,
        2.0,
        3.0,
        4.0,
        6.0,
    ]
    bayes_contrasts: list[Contrast] = Field(["mean", "ring"], min_length=1)
    """A candidate's evidence: the standardised map's mean inside it, or that minus the mean of the ring around it."""
    bayes_similarities: list[Annotated[float, Field(ge=0, le=100)]] = Field([0.0, 3.0], min_length=1)
    """Weight, beside the contrast's 1, of the correlation between the map and the map of the image that a candidate
    comes from: boxes of images whose maps look alike count more."""
    max_candidates: PositiveInt = 200
    """Candidates of the Bayes rule a finding."""
    max_boxes: list[PositiveInt] = Field([1, 2, 3, 5, 10], min_length=1)
    """Boxes an image and finding, the strongest first. Later ones have low scores: they cost average precision little
    and find lesions that the first missed."""
    min_area: float = Field(0.002, ge=0, lt=1)
    """Components with a smaller box, as a share of the network's input, are dropped."""
    merge: list[Merge] = Field(["none", "wbf"], min_length=1)
    """wbf: components of one map that overlap by more than `merge_iou` are fused (weighted boxes fusion)."""
    merge_iou: float = Field(0.1, ge=0, le=1)

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
            raise ValueError(
                f"the rule {empty[0]!r} has no values to try; list some or take it out of `rules`"
            )
        return self
