"""Reports of the phantom: what the labels say, in both languages, and places from boxes."""

import numpy as np
import pytest

from cxr.labels import CHEXPERT_FINDINGS, Language
from cxr.phantom.canvas import Frame
from cxr.phantom.report_text import Place, place_of, write_report
from cxr.phantom.wording import WORDINGS

FRAME = Frame((200, 100), (50.0, 100.0), half_width_px=40.0, lung_height_px=160.0, tilt_rad=0.0)
LANGUAGES: tuple[Language, ...] = ("en", "fr")


def labels(**given: float) -> list[float | None]:
    names = {name.replace("_", " "): label for name, label in given.items()}
    return [names.get(name) for name in CHEXPERT_FINDINGS]


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_without_any_mention_give_no_finding_a_name(language: Language) -> None:
    words = WORDINGS[language]
    for seed in range(20):
        report = write_report(labels(), {}, language=language, rng=np.random.default_rng(seed))
        body = report.partition(words.headings[1])[2] if words.headings[0] in report else report
        assert not [name for names in words.names.values() for name in names if name.lower() in body.lower()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_positive_finding_is_named_with_its_place(language: Language) -> None:
    words = WORDINGS[language]
    places = {"Pleural Effusion": Place("L", "lower")}
    reports = [
        write_report(labels(Pleural_Effusion=1.0), places, language=language, rng=np.random.default_rng(seed))
        for seed in range(60)
    ]
    placed = [any(where in report for where in words.places["L", "lower"]) for report in reports]
    assert 0.6 < sum(placed) / len(placed) < 1  # sometimes left out or misspelt
    assert reports[0] == write_report(
        labels(Pleural_Effusion=1.0), places, language=language, rng=np.random.default_rng(0)
    )
    assert len(set(reports)) > 40


@pytest.mark.parametrize(
    ("boxes", "place"),
    [
        ([(10, 120, 30, 160)], ("R", "lower")),  # the picture's left is the patient's right
        ([(60, 30, 90, 50)], ("L", "upper")),
        ([(60, 80, 90, 120)], ("L", "middle")),
        ([(10, 120, 30, 160), (60, 120, 90, 160)], ("B", "lower")),
        ([(10, 30, 30, 50), (60, 30, 90, 50)], ("B", "")),
        ([(60, 30, 90, 50), (60, 120, 90, 160)], ("L", "")),
    ],
)
def test_places_of_boxes(boxes: list[tuple[float, float, float, float]], place: tuple[str, str]) -> None:
    assert place_of(boxes, FRAME) == place
