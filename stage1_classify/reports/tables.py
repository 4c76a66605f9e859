"""Cue tables: one YAML file per language with the words that the labeller knows, and the user's own findings.

In a phrase, ``absent(|e|s)`` stands for absent, absente, absents, and ``(may|could) (be|represent)`` for four phrases.
Upper and lower case, accents and hyphens do not matter, and the words of `fillers` and `degrees` may stand anywhere
inside a phrase.
"""

import difflib
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import field_validator

from cxr.config import Settings, UserError, parse_settings
from cxr.yaml_files import read_yaml

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
FOLDER = Path(__file__).parent / "cues"

SIMILAR = 0.85
"""A user's new finding whose name is as similar as this to a known one is probably a typing mistake."""

_MAX_PHRASES = 200
_ALTERNATIVES = re.compile(r"\(([^()]*)\)")

log = logging.getLogger("raybox")


class Cues(Settings):
    """Phrases that act on the findings after them, before them, or on both sides."""

    before: list[str] = []
    after: list[str] = []
    around: list[str] = []


class FindingWords(Settings):
    """How reports speak of one finding."""

    terms: list[str] = []
    """Names of the finding: "pleural effusion"."""
    subjects: list[str] = []
    """Structures that tell of the finding only together with a predicate: "heart size" ... "enlarged"."""
    predicates: dict[Literal["present", "uncertain", "absent"], list[str]] = {}
    """What the predicates of the subjects mean. `normal` and `borderline` of the language hold for all subjects."""


class LanguageTable(Settings):
    """The words of one language."""

    function_words: list[str]
    """Frequent words that tell the language."""
    fillers: list[str]
    """Words without a meaning of their own, such as articles."""
    degrees: list[str]
    """Words of size and degree. After a comma they begin a new statement: "no effusion, small pneumothorax"."""
    abbreviations: list[str]
    """Words whose full stop does not end a sentence."""
    correct_words: list[str]
    """Words that look like a misspelt word of this table and are none."""
    coordination: list[str]
    """Words between the parts of a clause: "with"."""
    joining: list[str]
    """Words that join the parts of a list: "and"."""
    list_ends: list[str]
    """Words before the last part of a list that a negation covers as a whole: "or"."""
    list_continues: list[str] = []
    """Words after the comma of a list, if the language has them: "pas d'épanchement, de pneumothorax". Empty: none."""
    boundaries: list[str]
    """Words that begin a new thought: neither cues nor places reach over them: "but"."""
    openings: list[str]
    """Words that begin a statement: cues do not reach over them, places do: "there is"."""
    sections: dict[Literal["indication", "comparison", "other"], list[str]]
    """Headings. Nothing is read in `indication`; `comparison` lasts for one sentence, of which only marks are read."""
    findings: dict[str, FindingWords]
    places: dict[str, list[str]]
    """"L lower", "R", "- upper", "B": side and zone -> words."""
    normal: list[str]
    borderline: list[str]
    negation: Cues
    uncertainty: Cues
    resolved: Cues
    """The finding is gone: absent, and the sentence compares with an earlier examination."""
    history: Cues
    """The patient once had the finding: not counted."""
    prior: Cues
    """An earlier image showed the finding: not counted."""
    indication: Cues
    """The question of the examination: not counted."""
    limits: Cues
    """The finding cannot be assessed: not counted."""
    interpretation: list[str]
    """Words that join a finding to its explanation with certainty: "in keeping with"."""
    neutral: list[str]
    """Phrases with a cue word that are none: "normal variant"."""
    known: list[str]
    """The finding is known already; it counts as present, and the sentence is marked."""
    compared: list[str]
    """Words of a comparison with an earlier examination; they change no verdict."""
    remarks: dict[str, list[str]]
    """Column of a remark on the image -> phrases."""

    @field_validator("places")
    @classmethod
    def _check_places(cls, places: dict[str, list[str]]) -> dict[str, list[str]]:
        bad = [place for place in places if not re.fullmatch(r"[LRB-]( (upper|middle|lower))?", place)]
        if bad:
            raise ValueError(f"{', '.join(bad)}: expected L, R, B or -, then upper, middle, lower or nothing")
        return places


class OwnFindings(Settings):
    """The user's own findings and synonyms: finding -> language -> phrases."""

    findings: dict[str, dict[Language, list[str]]]


def phrases_of(pattern: str) -> Iterator[str]:
    """The phrases that a pattern stands for.

    Example:
        >>> list(phrases_of("no (sign|trace) of"))
        ['no sign of', 'no trace of']
    """
    parts = _ALTERNATIVES.split(pattern)
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    for chosen in itertools.islice(itertools.product(*choices), _MAX_PHRASES):
        yield " ".join("".join(chosen).split())


def load_tables(own: Path | None = None) -> dict[Language, LanguageTable]:
    """The tables of all languages, with the user's own findings and synonyms.

    Raises:
        UserError: the user's file cannot be read, has unknown keys, or a phrase in it is empty.
    """
    tables = {language: _load(FOLDER / f"{language}.yaml") for language in LANGUAGES}
    if own is None:
        return tables
    given = parse_settings(OwnFindings, _mapping(own), source=str(own)).findings
    _check_own(given, known=finding_names(tables), source=own)
    return {language: _with_own(table, given, language) for language, table in tables.items()}


def finding_names(tables: dict[Language, LanguageTable]) -> list[str]:
    """All findings, those of the first language first."""
    return list(dict.fromkeys(name for table in tables.values() for name in table.findings))


def remark_names(tables: dict[Language, LanguageTable]) -> list[str]:
    """The columns of remarks on the image."""
    return list(dict.fromkeys(name for table in tables.values() for name in table.remarks))


def _load(path: Path) -> LanguageTable:
    return parse_settings(LanguageTable, _mapping(path), source=str(path))


def _mapping(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, expected `findings:` with one entry per finding")
    return values


def _check_own(given: dict[str, dict[Language, list[str]]], *, known: Sequence[str], source: Path) -> None:
    """Warn of names that look misspelt; UserError for empty names and phrases."""
    problems = []
    for name, by_language in given.items():
        close = [] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
        if close:
            log.warning("%s: %r becomes a new finding; did you mean %r?", source, name, close[0])
        empty = [phrase for phrases in by_language.values() for phrase in phrases if not phrase.strip()]
        if not name.strip() or empty or not any(by_language.values()):
            problems.append(f"{source}: finding {name!r} has an empty name or phrase; give words for each language")
    if problems:
        raise UserError(problems)


def _with_own(table: LanguageTable, given: dict[str, dict[Language, list[str]]], language: Language) -> LanguageTable:
    findings = dict(table.findings)
    for name, by_language in given.items():
        old = findings.get(name, FindingWords())
        findings[name] = old.model_copy(update={"terms": [*old.terms, *by_language.get(language, [])]})
    return table.model_copy(update={"findings": findings})
