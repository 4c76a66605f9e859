"""Settings of the pseudo-labels."""

from pathlib import Path

from pydantic import Field, PositiveInt

from cxr.config import Settings


class ReportPlaceSettings(Settings):
    """Side and zone of findings from reports (docs/reports.md): boxes elsewhere are not exported."""

    sides: Path
    """sides.csv of `label_reports.py`: report_id, finding, side, zone."""
    labels: Path
    """labels.csv of `label_reports.py`: tells the report of each image."""
    image: str
    """Its column with the path of the image."""
    zones: bool = True
    """False: sides only."""
    margin: float = Field(0.05, ge=0, le=0.5)
    """How far boxes of a side may have their centre beyond the middle of the image, as a share of its width."""


class PseudoLabelSettings(Settings):
    """Which boxes of the training images are exported. Everything excluded is counted."""

    min_probability: float = Field(0.0, ge=0, le=1)
    """A finding that the label affirms gets no box if its probability is below this. The image is then not exported,
    because it would be a false normal."""
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
