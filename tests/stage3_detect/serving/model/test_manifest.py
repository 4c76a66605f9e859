"""What bundle.json may say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError
from stage3_detect.serving.model.manifest import check_manifest
from tests.stage3_detect.stage3_builders import FINDINGS

NAN = float("nan")
FIRST = FINDINGS[0]


@pytest.fixture
def facts(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    return content


def problems_of(facts: Any) -> list[str]:
    try:
        check_manifest(json.dumps(facts).encode(), Path("bundle.json"))
    except UserError as error:
        return error.problems
    return []


def test_the_facts_of_a_bundle_are_valid(facts: dict[str, Any]) -> None:
    assert problems_of(facts) == []
    assert problems_of(facts | {"added": "by a later version"}) == []
    facts["parents"].update({FIRST: ["Lung Lesion", "Lung Opacity"], FINDINGS[1]: ["no entry of its own"]})
    assert problems_of(facts) == []


@pytest.mark.parametrize("key", ["id", "name", "licence", "findings", "parents", "settings", "engines", "files"])
def test_a_missing_fact_is_named(facts: dict[str, Any], key: str) -> None:
    del facts[key]
    (problem,) = problems_of(facts)
    assert key in problem


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(findings=[]),
        lambda facts: facts.update(findings="abc"),
        lambda facts: facts["findings"].append(FIRST),
        lambda facts: facts["findings"].append("x" * 201),
        lambda facts: facts["findings"].append("a\nb"),
        lambda facts: facts.update(parents={}),
        lambda facts: facts["parents"].update({FIRST: [FIRST]}),
        lambda facts: facts["parents"].update({FIRST: [FINDINGS[1]], FINDINGS[1]: [FIRST]}),
        lambda facts: facts["parents"].update({FIRST: ["Lung Lesion"]}),  # whose own parent is an opacity
        lambda facts: facts["parents"].update({FIRST: ["Lung Lesion", "Lung Opacity", "Lung Lesion"]}),
        lambda facts: facts["operating_points"]["f1"]["scores"].update({FIRST: NAN}),
        lambda facts: facts["operating_points"]["f1"]["scores"].update({FIRST: -0.1}),
        lambda facts: facts["operating_points"]["f1"]["scores"].update({"Edema": 0.1}),
        lambda facts: facts["score_curves"]["pooled"].update(scale=NAN),
        lambda facts: facts["score_curves"]["pooled"].update(scale=-1.0),
        lambda facts: facts["score_curves"]["by_finding"].update({"Edema": {"scale": 1.0, "offset": 0.0}}),
        lambda facts: facts.update(box_correction={FIRST: [0, 0, NAN, 0]}),
        lambda facts: facts.update(box_correction={FIRST: [0, 0, 0]}),
        lambda facts: facts.update(regions=["sideways"]),
        lambda facts: facts["settings"]["predict"].update(min_score=5),
        lambda facts: facts.update(engines=[]),
        lambda facts: facts["engines"][0].update(format="pickle"),
        lambda facts: facts["engines"][0].update(file="/tmp/detector.onnx"),
        lambda facts: facts["engines"][0].update(file="other.onnx"),
        lambda facts: facts["files"].pop("MODEL_CARD.md"),
        lambda facts: facts["files"].update({"MODEL_CARD.md": 5}),
        lambda facts: facts["classifier"].pop("file"),
    ],
)
def test_facts_that_are_damaged_or_contradict_each_other(
    facts: dict[str, Any], change: Callable[[dict[str, Any]], object]
) -> None:
    change(facts)
    assert problems_of(facts)
