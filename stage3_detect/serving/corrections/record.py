"""A reading: what one reader decided about the boxes of one image. As the reading page posts it, and as it is saved."""

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cxr.config import UserError
from cxr.labels import ancestors, nearest
from stage3_detect.serving.model.manifest import FindingName, Sha256

Action = Literal["accepted", "rejected", "moved", "drawn", "relabelled"]
"""accepted: the model's box as it is. rejected: there is no such finding here. moved: the reader changed its corners.
drawn: the model missed it. relabelled: the reader changed its finding, and perhaps its corners."""

ACCEPTED, REJECTED, MOVED, DRAWN, RELABELLED = "accepted", "rejected", "moved", "drawn", "relabelled"
MAX_BOXES = 500
_MIN_SIDE_PX = 0.009
"""A hundredth of a pixel, to which boxes are answered, less what floats round away."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Corners = tuple[Number, Number, Number, Number]
Pixels = Annotated[int, Field(strict=True, gt=0, le=100_000)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadBox(_Record):
    """A box and the reader's decision. Corners are xyxy in pixels of the original image.

    score: of the model, null for a drawn box. original_box_xyxy, original_finding: the model's, where the reader
    changed them.
    """

    finding: FindingName
    box_xyxy: Corners
    action: Action
    score: Score | None = None
    original_box_xyxy: Corners | None = None
    original_finding: FindingName | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the reader marks this box; false for a rejected one."""
        return self.action != REJECTED

    @property
    def proposed_finding(self) -> str | None:
        """The finding that the model gave the box; None for a drawn box."""
        return None if self.action == DRAWN else self.original_finding or self.finding

    @model_validator(mode="after")
    def _originals_fit_the_action(self) -> Self:
        is_moved = self.original_box_xyxy not in (None, self.box_xyxy)
        is_renamed = self.original_finding not in (None, self.finding)
        originals = (self.score, self.original_box_xyxy, self.original_finding)
        if self.action == DRAWN and originals != (None, None, None):
            raise ValueError("a drawn box has no score, original_box_xyxy or original_finding")
        if self.action != DRAWN and self.score is None:
            raise ValueError(f"a box of the model has a score; got none for action {self.action}")
        if self.action in (ACCEPTED, REJECTED) and (is_moved or is_renamed):
            raise ValueError(f"action {self.action} with another original_box_xyxy or original_finding")
        if self.action == MOVED and (is_renamed or not is_moved):
            raise ValueError("a moved box has another original_box_xyxy and the same finding")
        if self.action == RELABELLED and not is_renamed:
            raise ValueError("a relabelled box has another original_finding")
        return self


class Reading(_Record):
    """One image read by one reader.

    complete: the reader read the whole image, so a finding of the model without a kept box is absent. Otherwise only
    the findings with a box are judged. seconds: reading time. model_sha256: manifest hash of the model that was shown.
    """

    image_sha256: Sha256
    name: Annotated[str, Field(min_length=1, max_length=512)]
    width_px: Pixels
    height_px: Pixels
    reader: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
    consent: Annotated[bool, Field(strict=True)]
    complete: Annotated[bool, Field(strict=True)] = False
    seconds: Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)]
    clicks: Annotated[int, Field(strict=True, ge=0, le=100_000)]
    model_sha256: Sha256
    boxes: Annotated[tuple[ReadBox, ...], Field(max_length=MAX_BOXES)]

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.width_px, self.height_px

    @field_validator("consent")
    @classmethod
    def _is_given(cls, value: bool) -> bool:
        if not value:
            raise ValueError("corrections are saved only with the reader's consent")
        return value

    @field_validator("name")
    @classmethod
    def _is_a_relative_path(cls, value: str) -> str:
        """A folder that is dropped on the page gives names with slashes."""
        path = PurePosixPath(value)
        # Cc, Cs: control characters, and halves of pairs, which no file can hold
        is_text = not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)
        if path.is_absolute() or not path.name or ".." in path.parts or "\\" in value or not is_text:
            raise ValueError("expected a file name, or a relative path without .. and control characters")
        return value

    @model_validator(mode="after")
    def _boxes_are_inside(self) -> Self:
        for number, box in enumerate(self.boxes):
            for x1, y1, x2, y2 in (box.box_xyxy, box.original_box_xyxy or box.box_xyxy):
                if not (0 <= x1 < x2 <= self.width_px and 0 <= y1 < y2 <= self.height_px):
                    raise ValueError(
                        f"boxes.{number}: [{x1:g}, {y1:g}, {x2:g}, {y2:g}] is empty or outside the image of "
                        f"{self.width_px} x {self.height_px} pixels"
                    )
        return self


class SavedReading(Reading):
    """A reading in the file.

    id: number of its line. time: UTC, ISO 8601, when it was saved. findings: all findings of the model that was shown.
    parents: the ancestors of each of them, nearest first; None in files of earlier versions, where `cxr.labels.PARENTS`
    is used.
    """

    id: Annotated[str, Field(pattern=r"^[0-9]{6,}$")]
    time: str
    findings: tuple[FindingName, ...]
    parents: dict[FindingName, tuple[FindingName, ...]] | None = None

    def ancestors(self, finding: str) -> Sequence[str]:
        """The findings that a finding implies."""
        return ancestors(finding) if self.parents is None else self.parents.get(finding, ())


def check_box_sides(reading: Reading) -> None:
    """Refuse (UserError) a reading with a box narrower than a hundredth of a pixel, which COCO would hold as empty.

    Not checked when a file is read, so that boxes of earlier versions do not keep a service from starting.
    """
    for number, box in enumerate(reading.boxes):
        x1, y1, x2, y2 = box.box_xyxy
        if min(x2 - x1, y2 - y1) < _MIN_SIDE_PX:
            raise UserError(f"boxes.{number}: {x2 - x1:g} x {y2 - y1:g} pixels are less than {_MIN_SIDE_PX}, so no box")


def check_findings_known(reading: Reading, findings: Collection[str]) -> None:
    """Refuse (UserError) a reading with a finding that the served model does not have."""
    named = {name for box in reading.boxes for name in (box.finding, box.original_finding) if name is not None}
    unknown = sorted(named - set(findings))
    if unknown:
        name = unknown[0]
        raise UserError(f"boxes: unknown finding {name!r}{nearest(name, findings)}; one of {', '.join(findings)}")
