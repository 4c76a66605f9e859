"""Which readings are accepted."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from cxr.config import UserError
from stage3_detect.serving.corrections.record import MAX_BOXES, ReadBox, Reading, check_findings_known
from tests.stage3_detect.serving.corrections.correction_builders import BOX, FINDINGS, MOVED_BOX, body, box, reading

OTHER = "Consolidation"


def test_a_reading_without_boxes() -> None:
    empty = reading()
    assert empty.boxes == () and not empty.complete
    check_findings_known(empty, FINDINGS)


@pytest.mark.parametrize(
    ("given", "kept", "proposed"),
    [
        (box("accepted"), True, "Pleural Effusion"),
        (box("accepted", original_box_xyxy=list(BOX), original_finding="Pleural Effusion"), True, "Pleural Effusion"),
        (box("rejected"), False, "Pleural Effusion"),
        (box("moved"), True, "Pleural Effusion"),
        (box("drawn"), True, None),
        (box("relabelled", OTHER, original_finding="Pleural Effusion"), True, "Pleural Effusion"),
        (
            box("relabelled", OTHER, original_finding="Lung Opacity", original_box_xyxy=list(MOVED_BOX)),
            True,
            "Lung Opacity",
        ),
    ],
)
def test_actions(given: dict[str, Any], kept: bool, proposed: str | None) -> None:
    found = ReadBox.model_validate(given)
    assert (found.is_kept, found.proposed_finding) == (kept, proposed)


@pytest.mark.parametrize(
    "given",
    [
        box("drawn", score=0.5),
        box("drawn", original_box_xyxy=list(BOX)),
        box("drawn", original_finding="Pleural Effusion"),
        box("accepted", score=None),
        box("accepted", original_box_xyxy=list(MOVED_BOX)),
        box("rejected", original_finding=OTHER),
        box("moved", original_box_xyxy=None),
        box("moved", original_box_xyxy=list(MOVED_BOX)),
        box("moved", original_finding=OTHER),
        box("relabelled"),
        box("relabelled", original_finding="Pleural Effusion"),
        box("approved"),
        box(score=1.01),
        box(score=math.nan),
        box(score=True),
        box(box_xyxy=[1, 2, 3]),
        box(box_xyxy=[1, 2, 3, math.inf]),
        box(box_xyxy=["1", 2, 3, 4]),
        box(finding=""),
        box(extra=1),
    ],
)
def test_boxes_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        reading([given])


@pytest.mark.parametrize(
    "changes",
    [
        {"consent": False},
        {"consent": 1},
        {"image_sha256": "A" * 64},
        {"model_sha256": "f" * 63},
        {"name": ""},
        {"name": "../chest.png"},
        {"name": "/chest.png"},
        {"name": "a\\chest.png"},
        {"name": "a\nb.png"},
        {"name": "a\ud800.png"},
        {"name": "x" * 513},
        {"width_px": 0},
        {"height_px": 100_001},
        {"height_px": 90.5},
        {"reader": ""},
        {"reader": "Dr. A"},
        {"reader": "r" * 33},
        {"reader": "r1\n"},
        {"seconds": -1.0},
        {"seconds": math.inf},
        {"seconds": 86_401},
        {"clicks": -1},
        {"clicks": 1.5},
        {"complete": "yes"},
        {"boxes": [box()] * (MAX_BOXES + 1)},
        {"id": "000009"},
    ],
)
def test_readings_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        reading(**changes)


@pytest.mark.parametrize("name", sorted(body().keys() - {"complete"}))
def test_every_field_is_needed(name: str) -> None:
    given = body()
    del given[name]
    with pytest.raises(ValidationError):
        Reading.model_validate(given)


@pytest.mark.parametrize(
    ("corners", "is_inside"),
    [
        ([0, 0, 130, 90], True),
        ([129.5, 89.5, 130, 90], True),
        ([-0.1, 0, 10, 10], False),
        ([0, 0, 130.1, 90], False),
        ([0, 0, 90, 91], False),  # inside if width and height were exchanged
        ([10, 10, 10, 20], False),
        ([10, 20, 20, 10], False),
    ],
)
def test_boxes_are_inside_the_image(corners: list[float], is_inside: bool) -> None:
    given = [box(box_xyxy=corners), box("moved", original_box_xyxy=corners)]
    for one in given:
        if is_inside:
            assert len(reading([one]).boxes) == 1
        else:
            with pytest.raises(ValidationError):
                reading([one])


def test_numbers_survive_the_file_to_the_bit() -> None:
    given = reading([box(box_xyxy=[0.1, 1 / 3, 129.99999999999997, 2 / 3])])
    assert Reading.model_validate(json.loads(given.model_dump_json())) == given


@pytest.mark.parametrize("name", ["chest 1.dcm", "2026/05/röntgen\u202f9.png", "I0001", "-1.png", "胸部.jpg"])
def test_names_of_files_as_they_are(name: str) -> None:
    assert reading(name=name).name == name


def test_unknown_findings_are_refused_with_the_nearest() -> None:
    check_findings_known(reading([box(), box("relabelled", OTHER, original_finding="Lung Opacity")]), FINDINGS)
    with pytest.raises(UserError, match=r"'Plural Effusion' .*'Pleural Effusion'"):
        check_findings_known(reading([box(finding="Plural Effusion")]), FINDINGS)
    with pytest.raises(UserError, match="'Edema'"):
        check_findings_known(reading([box("relabelled", original_finding="Edema")]), FINDINGS)
