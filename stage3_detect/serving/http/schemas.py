"""The JSON that the service answers, with examples for OpenAPI."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.interface import ModelFacts

_MODEL = {
    "id": "demo-3f2a9c",
    "name": "demo",
    "findings": ["Cardiomegaly", "Pleural Effusion"],
    "manifest_sha256": "9d3b7c" + 58 * "0",
}
_DETECTION = {
    "finding": "Cardiomegaly",
    "parents": ["Enlarged Cardiomediastinum"],
    "box_xyxy": [812.4, 1290.0, 2011.7, 2102.9],
    "score": 0.81,
    "confidence": 0.74,
    "shown": True,
}
_IMAGE = {
    "name": "one.dcm",
    "width_px": 3000,
    "height_px": 2500,
    "quality": {"ok": True, "reasons": [], "codes": [], "abstained": False},
    "detections": [_DETECTION],
}
_POINT = {
    "about": "the best F1 on the tune split",
    "scores": {"Cardiomegaly": 0.31, "Pleural Effusion": None},
    "confidence": None,
    "measured": {"false_per_image": 0.86, "low": 0.62, "high": 1.11, "never_found": []},
}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]}, use_attribute_docstrings=True, frozen=True)


class ErrorAnswer(BaseModel):
    """Every error."""

    model_config = _example(error="A request has at most 209715200 bytes.")
    error: str


class ModelIdentity(BaseModel):
    """Which model gave an answer."""

    model_config = _example(**_MODEL)
    id: str
    name: str
    findings: list[str]
    manifest_sha256: str
    """Of the bundle's manifest, which holds the hash of each of its files."""


class MeasuredAnswer(BaseModel):
    """What an operating point does on the test split of the run."""

    model_config = _example(**_POINT["measured"])  # type: ignore[arg-type]
    false_per_image: float
    """False boxes per image, all findings together."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    never_found: list[str]
    """Findings with true boxes of which none was found."""


class PointAnswer(BaseModel):
    """An operating point."""

    model_config = _example(**_POINT)
    about: str
    scores: dict[str, float | None]
    """Threshold of each finding; null for a finding that is never shown."""
    confidence: float | None
    """The limit of confidence where all findings share one; null where each has its own."""
    measured: MeasuredAnswer | None
    """Null where the run measured nothing."""


class ModelAnswer(BaseModel):
    """What is served."""

    model_config = _example(
        **_MODEL, parents={"Cardiomegaly": ["Enlarged Cardiomediastinum"], "Pleural Effusion": []},
        format="openvino_fp16", licence="AGPL-3.0-or-later", card="# Model card", points={"f1": _POINT},
        default_point="f1", map_method="", synthetic=True, quality_gate="abstain", corrections=False, images_kept=False,
        reader_note="for research only, not for diagnosis", version="0.1.0",
    )  # fmt: skip
    id: str
    name: str
    findings: list[str]
    manifest_sha256: str
    parents: dict[str, list[str]]
    """Ancestors of each finding, nearest first."""
    format: str
    """Of the detector's file."""
    licence: str
    card: str
    """Markdown."""
    points: dict[str, PointAnswer]
    default_point: str
    map_method: str
    """Empty where no maps are served."""
    synthetic: bool
    """Trained on computer-generated images."""
    quality_gate: str
    """What happens to an unsuitable image: abstain (no box is shown), warn, or off."""
    corrections: bool
    """Whether corrections are accepted."""
    images_kept: bool
    """Whether the images of saved corrections are stored."""
    reader_note: str
    version: str


class Quality(BaseModel):
    """Verdict on the image."""

    model_config = _example(**_IMAGE["quality"])  # type: ignore[arg-type]
    ok: bool
    reasons: list[str]
    """A sentence for each problem."""
    codes: list[str]
    """The problems for programs: inverted, rotated, not_chest, ..."""
    abstained: bool
    """The detector gives no result: no box is `shown`."""


class Detection(BaseModel):
    """One box."""

    model_config = _example(**_DETECTION)
    finding: str
    parents: list[str]
    box_xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the uploaded image."""
    score: float
    confidence: float | None
    """Calibrated probability that a reader would mark the box; null where the model is not calibrated."""
    shown: bool
    """The score reaches the operating point."""


class ImageAnswer(BaseModel):
    """All boxes of one image, highest score first."""

    model_config = _example(**_IMAGE)
    name: str
    width_px: int
    height_px: int
    quality: Quality
    detections: list[Detection]


class ImageError(BaseModel):
    """An image that cannot be read."""

    model_config = _example(name="notes.txt", error="The file is damaged, or not a PNG, JPEG or DICOM file.")
    name: str
    error: str


class DetectionsAnswer(BaseModel):
    """One entry for each file, in the order of the request."""

    model_config = _example(model=_MODEL, images=[_IMAGE])
    model: ModelIdentity
    images: list[ImageAnswer | ImageError]


class MapAnswer(BaseModel):
    """The heat map of a finding."""

    model_config = _example(finding="Cardiomegaly", parents=[], probability=0.83, values_base64="AAECAwQF")
    finding: str
    parents: list[str]
    probability: float
    """Calibrated probability that the image shows the finding."""
    values_base64: str
    """h * w bytes, row by row: 0 to 255 of the map's own range."""


class MapsAnswer(BaseModel):
    """A map for each finding of the classifier; the grid covers the image from edge to edge."""

    model_config = _example(
        model=_MODEL, method="hirescam", width_px=3000, height_px=2500, grid_hw=[2, 3],
        maps=[{"finding": "Cardiomegaly", "parents": [], "probability": 0.83, "values_base64": "AAECAwQF"}],
    )  # fmt: skip
    model: ModelIdentity
    method: str
    width_px: int
    height_px: int
    grid_hw: tuple[int, int]
    maps: list[MapAnswer]


class StateAnswer(BaseModel):
    """State of the service."""

    model_config = _example(status="ok")
    status: str


def model_identity(facts: ModelFacts) -> ModelIdentity:
    """The identity that every answer carries."""
    return ModelIdentity(
        id=facts.id, name=facts.name, findings=list(facts.findings), manifest_sha256=facts.manifest_sha256
    )


def detection(box: FoundBox, facts: ModelFacts) -> Detection:
    """A box as it is answered: coordinates to a hundredth of a pixel, probabilities to six digits."""
    x1, y1, x2, y2 = (round(corner, 2) for corner in box.xyxy)
    return Detection(
        finding=box.finding,
        parents=list(facts.parents.get(box.finding, ())),
        box_xyxy=(x1, y1, x2, y2),
        score=round(box.score, 6),
        confidence=None if box.confidence is None else round(box.confidence, 6),
        shown=box.shown,
    )
