"""Cue tables: one YAML file per language with the words that the labeller knows, and those of the label file.

In a phrase, ``absent(|e|s)`` stands for absent, absente, absents, and ``(may|could) (be|represent)`` for four phrases.
Upper and lower case, accents and hyphens do not matter, and the words of `fillers` and `degrees` may stand anywhere
inside a phrase.
"""

import itertools
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from pydantic import field_validator

from cxr.config import Settings, UserError, load_config
from cxr.labels import BUILT_IN, FINDINGS, Language, Terminology

LANGUAGES: tuple[Language, ...] = get_args(Language)
FOLDER = Path(__file__).parent / "cues"

_MAX_PHRASES = 1000
_SHOWN = 80
_ALTERNATIVES = re.compile(r"\(([^()]*)\)")

log = logging.getLogger("raybox")


class Cues(Settings):
    """Phrases that act on the findings after them, before them, or on both sides."""

    before: list[str] = []
    after: list[str] = []
    around: list[str] = []
    leading: list[str] = []
    """As `before`, but not after another finding: "ancien pneumothorax" is gone, "fracture ancienne de côte" is not."""
    trailing: list[str] = []
    """As `after`, but not before another finding: "opacity likely", but "opacity likely representing pneumonia"."""


class FindingWords(Settings):
    """How reports speak of one finding."""

    terms: list[str] = []
    """Names of the finding: "pleural effusion"."""
    subjects: list[str] = []
    """Structures that mean the finding only together with a predicate: "heart size" ... "enlarged"."""
    ratios: list[str] = []
    """Subjects whose number, a share, means the finding if it is above one half: "cardiothoracic ratio 0.58"."""
    predicates: dict[Literal["present", "uncertain", "absent"], list[str]] = {}
    """What the predicates of the subjects mean. `normal` and `borderline` of the language hold for all subjects."""


class LanguageTable(Settings):
    """The words of one language."""

    function_words: list[str]
    """Frequent words that show the language."""
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
    sections: dict[Literal["indication", "comparison", "summary", "other"], list[str]]
    """Headings. Nothing is read in `indication`; `comparison` lasts for one sentence, of which only marks are read.
    `summary` is about the whole examination."""
    findings: dict[str, FindingWords]
    places: dict[str, list[str]]
    """"L lower", "R", "- upper", "B": side and zone -> words."""
    normal_reports: list[str]
    """Whole reports, or whole sentences of a summary, that say No Finding: "Unremarkable"."""
    normal: list[str]
    ratio_above: list[str]
    """Words before the number of a ratio: it is more."""
    ratio_below: list[str]
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


def phrases_of(pattern: str) -> Iterator[str]:
    """The phrases that a pattern stands for.

    Example:
        >>> list(phrases_of("no (sign|trace) of"))
        ['no sign of', 'no trace of']

    Raises:
        UserError: brackets in brackets or without a partner, | outside of brackets, or too many phrases.
    """
    parts = _ALTERNATIVES.split(pattern)
    if any(sign in part for part in parts[::2] for sign in "()|"):
        raise UserError(f"phrase {pattern[:_SHOWN]!r}: expected alternatives such as (a|b), not one inside another")
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    if (num := math.prod(map(len, choices))) > _MAX_PHRASES:
        raise UserError(
            f"phrase {pattern[:_SHOWN]!r} stands for {num} phrases, expected at most {_MAX_PHRASES}; split it"
        )
    for chosen in itertools.product(*choices):
        yield " ".join("".join(chosen).split())


def load_tables(terms: Terminology = BUILT_IN) -> dict[Language, LanguageTable]:
    """The tables of all languages, with the names and phrases of the label file."""
    return {
        language: _with_own(load_config(LanguageTable, FOLDER / f"{language}.yaml"), terms, language)
        for language in LANGUAGES
    }


def finding_names(tables: dict[Language, LanguageTable], terms: Terminology = BUILT_IN) -> list[str]:
    """The findings that have words in any language, in the order of `terms`. The others are logged."""
    spoken = {name for table in tables.values() for name in table.findings}
    silent = [name for name in terms.findings if name not in spoken and name not in FINDINGS]
    if silent:
        log.warning("no column for findings whose label file has no phrases (en, fr): %s", ", ".join(silent))
    return [name for name in terms.findings if name in spoken]


def remark_names(tables: dict[Language, LanguageTable]) -> list[str]:
    """The columns of remarks on the image."""
    return list(dict.fromkeys(name for table in tables.values() for name in table.remarks))


def _with_own(table: LanguageTable, terms: Terminology, language: Language) -> LanguageTable:
    """The table under the names of `terms`. Words of findings that become one are put together.

    Findings that `terms` leaves out keep their words: a report that denies one says No Finding too.
    """
    findings: dict[str, FindingWords] = {}
    for name, words in table.findings.items():
        own = terms.synonyms.get(name, name)
        findings[own] = _joined(findings[own], words) if own in findings else words
    for name, phrases in terms.phrases.get(language, {}).items():
        findings[name] = _joined(findings.get(name, FindingWords()), FindingWords(terms=list(phrases)))
    return table.model_copy(update={"findings": findings})


def _joined(first: FindingWords, second: FindingWords) -> FindingWords:
    values = first.predicates.keys() | second.predicates.keys()
    lists = {name: [*getattr(first, name), *getattr(second, name)] for name in ("terms", "subjects", "ratios")}
    predicates = {value: [*first.predicates.get(value, []), *second.predicates.get(value, [])] for value in values}
    return FindingWords(**lists, predicates=predicates)
