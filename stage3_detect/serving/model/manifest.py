"""What bundle.json must hold. It has no hash of its own, so nothing in it is used before it is checked here."""

import unicodedata
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cxr.config import UserError
from cxr.imaging.files import Region
from stage3_detect.settings.detector import ExportFormat, PredictSettings

MODEL_CARD = "MODEL_CARD.md"


def _printable(value: str) -> str:
    # Cc, Cs: control characters, and halves of pairs, which no file can hold
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("expected text without control characters")
    return value


def _in_the_folder(value: str) -> str:
    if value in ("", ".", "..") or Path(value).name != value:
        raise ValueError("names a file outside its folder")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
FindingName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
FileName = Annotated[str, AfterValidator(_in_the_folder)]
_Code = tuple[Text, Text, Text]
"""Value, scheme and meaning."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Facts that only people read may be added without a new format."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, strict=True)


class _Settings(_Part):
    predict: PredictSettings


class _Curve(_Part):
    scale: Annotated[float, Field(ge=0)]
    offset: float


class _Curves(_Part):
    pooled: _Curve
    by_finding: dict[FindingName, _Curve]


class _Measured(_Part):
    false_per_image: Annotated[float, Field(ge=0)]
    low: float | None
    high: float | None
    never_found: tuple[FindingName, ...]


class _Point(_Part):
    about: str
    scores: dict[FindingName, Annotated[float, Field(ge=0)] | None]
    measured: _Measured | None = None


class _Engine(_Part):
    format: ExportFormat
    file: FileName


class _Classifier(_Part):
    file: FileName
    findings: Annotated[tuple[FindingName, ...], Field(min_length=1)]
    method: Text


class _Gate(_Part):
    file: FileName


class Manifest(_Part):
    """The facts, and that they fit together: findings of thresholds, curves and corrections, and files with a hash."""

    id: Text
    name: Text
    licence: Text
    findings: Annotated[tuple[FindingName, ...], Field(min_length=1)]
    parents: dict[FindingName, tuple[FindingName, ...]]
    codes: dict[FindingName, tuple[_Code, _Code | None]] = {}
    settings: _Settings
    operating_points: dict[Text, _Point] = {}
    score_curves: _Curves | None = None
    box_correction: dict[FindingName, tuple[float, float, float, float]] = {}
    regions: tuple[Region, ...] = ("full",)
    synthetic: bool = False
    engines: Annotated[tuple[_Engine, ...], Field(min_length=1)]
    classifier: _Classifier | None
    quality_gate: _Gate | None = None
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _findings_are_known(self) -> Self:
        if len(set(self.findings)) < len(self.findings):
            raise ValueError("findings: one is named twice")
        if missing := set(self.findings) - set(self.parents):
            raise ValueError(f"parents: none given for {min(missing)!r}")
        named = {
            "box_correction": set(self.box_correction),
            "score_curves": set(self.score_curves.by_finding) if self.score_curves else set(),
            **{f"operating_points.{name}": set(point.scores) for name, point in self.operating_points.items()},
        }
        for place, names in named.items():
            if unknown := names - set(self.findings):
                raise ValueError(f"{place}: unknown finding {min(unknown)!r}")
        return self

    @model_validator(mode="after")
    def _parents_form_a_tree(self) -> Self:
        for finding, above in self.parents.items():
            path = (finding, *above)
            for place, name in enumerate(path[1:], start=1):
                if name in path[:place] or self.parents.get(name, path[place + 1 :]) != path[place + 1 :]:
                    raise ValueError(f"parents: {finding!r} and {name!r} do not fit into one tree")
        return self

    @model_validator(mode="after")
    def _files_have_hashes(self) -> Self:
        used = {MODEL_CARD, *(engine.file for engine in self.engines)}
        used |= {part.file for part in (self.classifier, self.quality_gate) if part}
        if missing := used - set(self.files):
            raise ValueError(f"files: no hash of {min(missing)}")
        return self


def check_manifest(content: bytes, path: Path) -> None:
    """Refuse (UserError, a line for each problem) a bundle.json whose facts are missing, damaged or contradictory."""
    try:
        Manifest.model_validate_json(content)
    except ValidationError as error:
        raise UserError(
            [f"{path}: {_described(problem)}; write the bundle again" for problem in error.errors()]
        ) from None


def _described(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"])) or "the file"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
