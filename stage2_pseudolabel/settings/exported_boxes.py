"""Settings of the pseudo-labels: which boxes are exported."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PositiveInt

from cxr.config import Settings


class ReportPlaceSettings(Settings):
    """Side and zone of findings from reports (docs/reports.md): boxes elsewhere are not exported."""

    sides: Path
    """sides.csv of `label_reports.py`: report_id, finding, side, zone."""
    labels: Path
    """labels.csv of `label_reports.py`: the report of each image."""
    image: str
    """Its column with the path of the image."""
    zones: bool = True
    """False: sides only."""
    margin: float = Field(0.05, ge=0, le=0.5)
    """How far boxes of a side may have their centre beyond the middle of the image, as a share of its width."""


class PseudoLabelSettings(Settings):
    """Which boxes of the training images are exported. Everything left out is counted."""

    renamed: ClassVar[Mapping[str, str]] = {
        "min_probability": "min_likelihood_ratio (another scale: 1 asks for the finding's share in training)"
    }

    min_likelihood_ratio: float = Field(0.0, ge=0)
    """A finding that the label affirms gets no box if the odds of its calibrated probability are below this many times
    the odds of its share in the training labels: with 1, if the image makes it less likely than it is on average. The
    whole image is then an ignore region of this finding; other findings of the image keep their boxes. 0: off."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """Boxes with a lower calibrated confidence (the probability of matching a true box at IoU .4) become ignore
    regions."""
    min_confidence_further: float = Field(0.25, ge=0, le=1)
    """The best box per image and finding is always kept, because the label affirms the finding. Further boxes with a
    lower confidence are dropped: rules are tuned by AP, which tolerates false boxes with low scores, but as labels they
    are wrong. A box improves F1 if its confidence exceeds half of the F1 reached (Lipton et al. 2014, arXiv:1402.1892),
    .25 for an F1 of .5."""
    report_places: ReportPlaceSettings | None = None
    """Where reports say that findings are. None: boxes may be anywhere."""
    max_images: PositiveInt | None = None
    """Export a random sample of this many training images. None: all."""
