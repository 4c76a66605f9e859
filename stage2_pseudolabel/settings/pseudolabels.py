"""Settings of the pseudo-labels."""

from pydantic import Field, PositiveInt

from cxr.config import Settings


class PseudoLabelSettings(Settings):
    """Which boxes of the training images are exported. Whatever is left out is counted."""

    min_probability: float = Field(0.0, ge=0, le=1)
    """A finding that the label affirms but the classifier puts below this gets no box; the image is left out of the
    export, since it would be a false normal."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """A box whose calibrated confidence (chance that it pairs off with a true box at IoU .4) is below this becomes an
    ignore region."""
    min_confidence_further: float = Field(0.25, ge=0, le=1)
    """Of the boxes of a finding in an image the best one stays, since the label speaks of the finding; a further one
    below this is not exported at all, for it is more likely nothing. Rules are tuned by AP, which forgives false boxes
    of low score, so they make many; as labels these are as wrong as any other. A box adds to F1 where its confidence is
    above half of the F1 that is reached (Lipton et al. 2014, arXiv:1402.1892): .25 where that is .5."""
    max_images: PositiveInt | None = None
