"""The findings of a run, their tree, names and codes: the built-in ones, changed by the user's label file.

    built_in: true                   # false: only the findings of this file
    findings:
      Air:                           # a new finding
      Pneumothorax: {parent: Air}    # a built-in one, with another parent
      Liquid:
        synonyms: [Pleural Effusion, épanchement]
        en: [fluid]
        fr: ["liquide(|s)"]
        code: {value: "60046008", scheme: SCT, meaning: Pleural effusion}

A synonym that is the name of a built-in finding takes it over: its labels and boxes in all data sets become the new
finding's. docs/data.md explains the format.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cxr.config import Settings, UserError, load_config
from cxr.labels.codes import Code, FindingCode, code_of
from cxr.labels.findings import FINDINGS, NO_FINDING, PARENTS, RELEASED_NAMES
from cxr.labels.names import FindingName, cycles, misspelt, nearest, slug

log = logging.getLogger("raybox")

Text = Annotated[str, Field(pattern=r"\S")]
Language = Literal["en", "fr"]


class OwnCode(Settings):
    """A coded concept of DICOM results."""

    value: str = Field(pattern=r"^[^\\\s]{1,16}$")
    """At most 16 characters."""
    scheme: str = Field(pattern=r"^[^\\\s]{1,16}$")
    """SCT (SNOMED CT), DCM, RADLEX, or a private scheme that begins with 99."""
    meaning: FindingName
    """The words of the code."""

    def as_code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)


class OwnFinding(Settings):
    """A finding of the label file. All keys are optional."""

    parent: FindingName | None = None
    """The finding that this one implies. null: none. Not given: a built-in finding keeps its own."""
    synonyms: list[FindingName] = []
    """Other names in tables, and built-in findings that become this one."""
    en: list[Text] = []
    """Phrases in English reports (docs/reports.md)."""
    fr: list[Text] = []
    """Phrases in French reports."""
    code: OwnCode | None = None
    """Code in DICOM results. None: that of the built-in finding, or a private one."""
    site: OwnCode | None = None
    """Code of the place where the finding lies."""


def _or_empty(value: object) -> object:
    return {} if value is None else value


class LabelFile(Settings):
    """The user's own findings."""

    built_in: bool = True
    """true: next to the built-in findings. false: only the findings of this file, and No Finding."""
    findings: dict[FindingName, Annotated[OwnFinding, BeforeValidator(_or_empty)]]
    """Name -> what the file says of the finding."""


@dataclass(frozen=True)
class Terminology:
    """All findings that a run may have.

    findings: in their order. parents: child -> parent. synonyms: other name -> finding. codes: of findings whose code
    is not that of `code_of`. phrases: language -> finding -> the phrases of the label file.
    """

    findings: tuple[str, ...]
    parents: Mapping[str, str]
    synonyms: Mapping[str, str]
    codes: Mapping[str, FindingCode] = field(default_factory=dict)
    phrases: Mapping[Language, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def names_in(self, names: Iterable[str], *, source: str) -> dict[str, str]:
        """Name -> finding. Built-in findings are left out if the label file does not have them.

        A name that is not known is a new finding without parent. It is refused if it resembles a known one.

        Raises:
            UserError: names that are probably misspelt, or are the same in the names of figures.
        """
        found = {name: self.synonyms.get(name, name) for name in dict.fromkeys(names)}
        own = {name: finding for name, finding in found.items() if finding in self.findings or name not in FINDINGS}
        new = [name for name in own.values() if name not in self.findings]
        problems = [
            f"{source}: finding {name!r} is probably {close!r}; correct it, or, if it is another finding, give it an "
            "entry in the label file"
            for name in new
            if (close := misspelt(name, [*self.findings, *self.synonyms]))
        ]
        problems += _same_slugs([*self.findings, *new], source=source)
        if problems:
            raise UserError(problems)
        if new:
            found_new = ", ".join(new)
            log.info("%s: new findings, in no label file and so without parent: %s", source, found_new)
        return own


BUILT_IN = Terminology(FINDINGS, PARENTS, {name: own for name, own in RELEASED_NAMES.items() if name != own})
"""The terminology without a label file."""


def load_terminology(path: Path | None) -> Terminology:
    """The terminology of a label file; None: the built-in one.

    Raises:
        UserError: the file cannot be read, or its names or its tree are contradictory (one line per problem).
    """
    if path is None:
        return BUILT_IN
    if not path.is_file():
        raise UserError(f"label_file: no file {path}; give the path of your label file (docs/data.md)")
    return _extended(load_config(LabelFile, path), source=str(path))


def _extended(file: LabelFile, *, source: str) -> Terminology:
    own = file.findings
    taken = {name: finding for finding, entry in own.items() for name in entry.synonyms if name in FINDINGS}
    problems = [*_contradictions(file, taken, source)]
    shipped = FINDINGS if file.built_in else (NO_FINDING,)
    findings = tuple(dict.fromkeys([*(taken.get(name, name) for name in shipped), *own]))
    parents = _parents(file, taken)
    problems += [
        f"{source}: {child}: parent {parent!r} is not a finding{nearest(parent, findings)}; give it an entry"
        for child, parent in parents.items()
        if parent not in findings
    ]
    problems += [f"{source}: {' > '.join(cycle)} is a cycle; remove one of these parents" for cycle in cycles(parents)]
    codes = _codes(own, taken)
    problems += [*_same_slugs(findings, source=source), *_same_codes(findings, codes, source)]
    if problems:
        raise UserError(problems)
    for name in own:
        if name not in FINDINGS and name not in taken.values() and (close := misspelt(name, FINDINGS)):
            log.warning("%s: %r becomes a new finding; did you mean %r?", source, name, close)
    return Terminology(findings, parents, _synonyms(own, taken, findings), codes, _phrases(own))


def _contradictions(file: LabelFile, taken: Mapping[str, str], source: str) -> Iterable[str]:
    names = Counter(name for entry in file.findings.values() for name in dict.fromkeys(entry.synonyms))
    for name, times in names.items():
        if times > 1:
            yield f"{source}: {name!r} is a synonym of {times} findings; keep one"
        if name in file.findings:
            yield f"{source}: {name!r} is a finding and a synonym; keep one"
    yield from _near_synonyms(file, taken, source)
    for name in (*file.findings, *names):
        released = RELEASED_NAMES.get(name, name)
        if released != name and taken.get(released) != _finding_of(name, file):
            yield f"{source}: {name!r} is how a data set calls {released!r}; give {released!r} instead"
    for name, entry in file.findings.items():
        in_tree = entry.parent is not None and NO_FINDING in (name, entry.parent)
        if in_tree or NO_FINDING in entry.synonyms:
            yield f"{source}: {name}: {NO_FINDING!r} can be neither renamed nor in the tree; remove it there"


def _near_synonyms(file: LabelFile, taken: Mapping[str, str], source: str) -> Iterable[str]:
    """Synonyms that differ from a name of another finding only in case, accents or signs, and so would miss it."""
    shipped = {name: name for name in FINDINGS}
    owners = {slug(name): (name, taken.get(own, own)) for name, own in {**RELEASED_NAMES, **shipped}.items()}
    owners |= {slug(name): (name, name) for name in file.findings}
    for finding, entry in file.findings.items():
        for name in dict.fromkeys(entry.synonyms):
            other, owned_by = owners.setdefault(slug(name), (name, finding))
            if other != name and owned_by != finding:
                yield (
                    f"{source}: {name!r}, a synonym of {finding!r}, is nearly {other!r} of {owned_by!r}; give "
                    f"{other!r} or another name"
                )


def _finding_of(name: str, file: LabelFile) -> str:
    """The finding of the file that has this name or synonym."""
    return next(finding for finding, entry in file.findings.items() if name == finding or name in entry.synonyms)


def _renamed(name: str, taken: Mapping[str, str]) -> str | None:
    """The built-in finding that only has another name in the file; None if there is none, or several become one."""
    sources = [shipped for shipped, finding in taken.items() if finding == name]
    return sources[0] if len(sources) == 1 and name not in FINDINGS else None


def _parents(file: LabelFile, taken: Mapping[str, str]) -> dict[str, str]:
    """The built-in tree, with findings renamed, and the changes of the file."""
    parents = {}
    for child, parent in PARENTS.items() if file.built_in else ():
        own_child, own_parent = taken.get(child, child), taken.get(parent, parent)
        is_kept = child not in taken or _renamed(own_child, taken)
        if is_kept and own_child != own_parent:
            parents[own_child] = own_parent
    for name, entry in file.findings.items():
        if "parent" in entry.model_fields_set:
            parents.pop(name, None)
        if entry.parent is not None:
            parents[name] = entry.parent
    return parents


def _synonyms(own: Mapping[str, OwnFinding], taken: Mapping[str, str], findings: Sequence[str]) -> dict[str, str]:
    shipped = {name: taken.get(finding, finding) for name, finding in BUILT_IN.synonyms.items()}
    given = {name: finding for finding, entry in own.items() for name in entry.synonyms}
    return {name: finding for name, finding in {**shipped, **given}.items() if finding in findings}


def _codes(own: Mapping[str, OwnFinding], taken: Mapping[str, str]) -> dict[str, FindingCode]:
    codes = {}
    for name, entry in own.items():
        before = code_of(_renamed(name, taken) or name)
        code = before.finding if entry.code is None else entry.code.as_code()
        site = before.site if entry.site is None else entry.site.as_code()
        if FindingCode(code, site) != code_of(name):
            codes[name] = FindingCode(code, site)
    return codes


def _phrases(own: Mapping[str, OwnFinding]) -> dict[Language, dict[str, Sequence[str]]]:
    return {
        "en": {name: entry.en for name, entry in own.items() if entry.en},
        "fr": {name: entry.fr for name, entry in own.items() if entry.fr},
    }


def _same_slugs(findings: Iterable[str], *, source: str) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for name in dict.fromkeys(findings):
        other = first.setdefault(slug(name), name)
        if other != name:
            problems.append(f"{source}: {name!r} and {other!r} are the same in the names of figures; rename one")
    return problems


def _same_codes(findings: Iterable[str], codes: Mapping[str, FindingCode], source: str) -> list[str]:
    """A box that a reader edited in a viewer is known by its code alone."""
    first: dict[tuple[str, str], str] = {}
    problems = []
    for name in findings:
        value, scheme, _ = code_of(name, codes).finding
        other = first.setdefault((value, scheme), name)
        if other != name:
            problems.append(f"{source}: {name!r} and {other!r} have the code {value} ({scheme}); change one")
    return problems
