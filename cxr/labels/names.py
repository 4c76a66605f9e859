"""Names of findings: as keys of figures, compared, corrected, looked up."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator

from cxr.config import UserError
from cxr.labels.findings import PARENTS

SIMILAR = 0.85
"""A new name whose letters agree to this share with a known one is probably a typing mistake (`difflib`)."""

MAX_NAME = 64
"""As long as the meaning of a code may be in DICOM."""

RESERVED = ("mean", "low", "high")
"""Names of figures that no finding may have: ``auroc/mean``."""

_TABLE_COLUMNS = frozenset({"image_id", "file", "split", "patient_id", "study_id", "num_views"})
_COLUMN_ENDINGS = (" call", " label")
"""Columns of ``predictions.csv``, where each finding has one of its own name and one with each ending."""


def _usable(name: str) -> str:
    if slug(name) in RESERVED:
        raise ValueError(f"expected another name than {', '.join(RESERVED)}, which figures have")
    if not slug(name) or name != name.strip() or len(name) > MAX_NAME:
        raise ValueError(f"expected 1 to {MAX_NAME} characters, a letter or digit among them, no space around them")
    if name in _TABLE_COLUMNS or name.endswith(_COLUMN_ENDINGS):
        raise ValueError("expected another name: predictions.csv has a column of this name")
    if name[:1] in "=+-@":
        raise ValueError("expected a name that does not begin with =, +, - or @, which a spreadsheet would run")
    if any(character in "|\\" or unicodedata.category(character).startswith("C") for character in name):
        raise ValueError("expected a name without |, backslash and control characters")
    return name


FindingName = Annotated[str, AfterValidator(_usable)]
"""The name of a finding in tables, figures, COCO files, exported networks and DICOM."""


def slug(name: str) -> str:
    """Name of a finding in ``metrics.json``: lower case without accents, every run of characters that are neither
    letters nor digits an underscore.

    Example:
        >>> slug("Épanchement / liquide")
        'epanchement_liquide'
    """
    decomposed = unicodedata.normalize("NFKD", name.lower())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", plain)).strip("_")


def class_slugs(classes: Iterable[str]) -> dict[str, str]:
    """Class -> its unique name in ``metrics.json``, also if slugs are empty, equal, "low" or "high".

    Example:
        >>> class_slugs(["Nodule/Mass", "nodule mass"])
        {'Nodule/Mass': 'nodule_mass', 'nodule mass': 'nodule_mass_2'}
    """
    slugs: dict[str, str] = {}
    for number, name in enumerate(classes, start=1):
        own = slug(name) or "class"
        taken = own in ("class", "low", "high") or own in slugs.values()
        slugs[name] = f"{own}_{number}" if taken else own
    return slugs


def ancestors(finding: str, parents: Mapping[str, str] = PARENTS) -> list[str]:
    """The ancestors of a finding, nearest first. parents: child -> parent."""
    found: list[str] = []
    while (finding := parents.get(finding, "")) and finding not in found:
        found.append(finding)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (nearest: 'x')`` for an error message, or "" if no known name is similar."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (nearest: {by_lower[close[0]]!r})" if close else ""


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """The known name that a new one probably stands for, or None if it resembles none."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=SIMILAR)
    return by_lower[close[0]] if close else None


def cycles(parents: Mapping[str, str]) -> list[list[str]]:
    """Each cycle of a tree that is none, once, as names from a child upwards and back to it."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in parents:
        path: dict[str, None] = {}
        name = start
        while name in parents and name not in path and name not in done:
            path[name] = None
            name = parents[name]
        if name in path:
            walked = list(path)
            found.append([*walked[walked.index(name) :], name])
        done |= path.keys()
    return found


def map_names(names: Iterable[str], mapping: Mapping[str, str], *, source: str) -> dict[str, str]:
    """Canonical name of each name of a data set. UserError with one line per name that `mapping` lacks."""
    unique = list(dict.fromkeys(names))
    problems = [
        f"{source}: unknown finding {name!r}{nearest(name, mapping)}; "
        f"expected one of {len(mapping)} names; correct the table or add the name in cxr/labels/findings.py"
        for name in unique
        if name not in mapping
    ]
    if problems:
        raise UserError(problems)
    return {name: mapping[name] for name in unique}


def check_findings(
    names: Iterable[str], known: Iterable[str], *, source: str, advice: str = "correct the name"
) -> None:
    """UserError with one line per finding in `names` that is not in `known` or is listed twice.

    advice: the end of the message about an unknown finding.
    """
    listed, known = list(names), list(known)
    problems = [
        f"{source}: finding {name!r} is not there{nearest(name, known)}; it has {', '.join(known) or 'none'}; {advice}"
        for name in listed
        if name not in known
    ]
    problems += [
        f"{source}: finding {name!r} is listed {listed.count(name)} times; list it once"
        for name in dict.fromkeys(listed)
        if listed.count(name) > 1
    ]
    if problems:
        raise UserError(problems)
