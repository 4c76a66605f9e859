"""Read a data set for its audit: whatever is wrong with it is named and counted, and the rest is read."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr.config import UserError
from cxr.datasets import CsvTableData, KermanyData, SeveralData, make_splits
from cxr.datasets.one import OneData
from cxr.datasets.own_names import with_own_names
from cxr.labels import Terminology, check_findings, load_terminology
from cxr.splits import Splits
from cxr.tables import Dataset
from eval.audit.settings import AuditSettings

CONFIGURED, RELEASED = "settings", "release"
"""Who divides the data set into splits: the settings file, or the release."""


@dataclass(frozen=True)
class AuditedData:
    """findings: columns of the labels that are shown. divisions: name -> splits, which may be empty or share patients;
    the first one is shown everywhere. problems: what could not be read or made, a sentence each."""

    data: Dataset
    findings: tuple[str, ...]
    divisions: Mapping[str, Splits]
    problems: tuple[str, ...]

    @property
    def splits(self) -> Splits:
        """The main division; empty if the data set has none."""
        return next(iter(self.divisions.values()), {})


def read_audited(settings: AuditSettings) -> AuditedData:
    """Read the data set and its divisions into splits.

    Raises:
        UserError: nothing can be read.
    """
    terms = load_terminology(settings.label_file)
    data, problems = _read(settings.data, terms)
    findings = data.findings
    if settings.findings is not None:
        try:
            check_findings(settings.findings, data.findings, source=f"findings: {data.name}")
        except UserError as error:
            problems += error.problems
        findings = tuple(dict.fromkeys(name for name in settings.findings if name in data.findings))
    divisions: dict[str, Splits] = {}
    if settings.split is not None:
        try:
            divisions[CONFIGURED] = make_splits(data, settings.split, settings.data, allow_leak=True)
        except UserError as error:
            problems += error.problems
    released = released_splits(data)
    if released and _parts(released) not in [_parts(own) for own in divisions.values()]:
        divisions[RELEASED] = released
    return AuditedData(data, findings, divisions, tuple(problems))


def released_splits(data: Dataset) -> Splits:
    """The splits of the release by its own names; empty if it has fewer than two."""
    images = data.images[data.images["split"] != ""]
    splits = {str(name): own["image_id"].tolist() for name, own in images.groupby("split", sort=False)}
    return splits if len(splits) > 1 else {}


def _parts(splits: Splits) -> set[frozenset[str]]:
    return {frozenset(ids) for ids in splits.values() if ids}


def _read(settings: OneData | SeveralData, terms: Terminology) -> tuple[Dataset, list[str]]:
    """The data set, or those of several that can be read; and why the others cannot."""
    if not isinstance(settings, SeveralData):
        return with_own_names(_lenient(settings).read(), terms), []
    sets: dict[str, Dataset] = {}
    problems: list[str] = []
    for name, own in settings.sets.items():
        try:
            sets[name] = with_own_names(_lenient(own).model_copy(update={"name": name}).read(), terms)
        except UserError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if not sets:
        raise UserError(problems)
    return settings.combined(sets), problems


def _lenient(settings: OneData) -> OneData:
    """Settings with which problems are excluded and counted, and identical files are kept, so that they are found."""
    changes: dict[str, object] = {"on_problem": "exclude"}
    if settings.check_files == "none":
        changes["check_files"] = "exist"
    if isinstance(settings, KermanyData | CsvTableData):
        changes["duplicates"] = "keep"
    return settings.model_copy(update=changes)
