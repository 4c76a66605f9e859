"""Section of a run's report about the distillation."""

from eval.report.blocks import Block, Table
from stage3_detect.distillation.start import DistilledStart


def distillation_blocks(start: DistilledStart | None) -> list[Block]:
    """A table of how well each layer predicts the classifier's features; nothing without a distillation."""
    if start is None:
        return []
    note = (
        "Before training, the detector's first layers learned to predict the features of the stage 1 classifier. R2 is "
        "the share of the features' variance that they explain on held-out training images: 1 is perfect, 0 is as good "
        "as the mean."
    )
    rows = [[*name.split("_"), value] for name, value in start.explained.items()]
    return [Table("Distillation", ["part", "stride", "R2"], rows, note)]
