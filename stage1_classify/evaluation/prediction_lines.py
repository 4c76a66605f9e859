"""The growing file of predictions, one line an image, as an interrupted call or a part of the images has left it."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, FiniteFloat, InstanceOf

from cxr.imaging.listing import ImageFile
from cxr.json_lines import JsonLines, WholeLines, done_images
from cxr.own_json import Shape


def line_shape(num_findings: int) -> type[Shape]:
    """A line of `predictions.jsonl`. Names of files may hold bytes that are not UTF-8, which pydantic's str refuses."""

    class PredictionLine(Shape):
        image_id: InstanceOf[str]
        file: InstanceOf[str]
        probabilities: Annotated[list[FiniteFloat], Field(min_length=num_findings, max_length=num_findings)]

    return PredictionLine


def predicted_images(lines: JsonLines | WholeLines, files: Iterable[ImageFile]) -> set[str]:
    """Ids of the images in the lines. UserError for a line that a call for these files has not written."""
    known = {file.image_id for file in files}
    return done_images(lines, lambda line: str(line["image_id"]), known=known)
