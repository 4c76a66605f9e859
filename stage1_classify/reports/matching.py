"""Sentences and the phrases of the cue tables in them, found by EDS-NLP.

Of EDS-NLP this uses the tokeniser, the sentence splitter and the phrase matcher. One matcher finds the phrases of all
kinds in one pass; of phrases that overlap the longest counts, so that "cannot be excluded" hides "excluded". EDS-NLP's
own qualifiers need a pass each and know neither sides nor predicates; `verdicts.py` takes their place.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import edsnlp
import numpy as np
from edsnlp.matchers.phrase import EDSPhraseMatcher
from spacy.attrs import NORM, ORTH, SENT_START, TAG
from spacy.tokens import Doc

from cxr.config import UserError
from stage1_classify.reports.ratios import RatioReader
from stage1_classify.reports.spelling import Speller, plain
from stage1_classify.reports.tables import LanguageTable, phrases_of
from stage1_classify.reports.vocabulary import Role, roles_of_phrases

SKIPPED = "EXCLUDED"
"""The tag of tokens that EDS-NLP's matcher passes over."""

MAX_TOKENS = 300
"""A longer sentence, which no radiologist writes, is read in parts of so many words and marks: the time for a sentence
grows with the cube of its findings."""

_SKIPPED_MARKS = {"-", "\n", "\r", "\t", "(", ")", "*", "•", "_"}
_FEW = 40
"""More phrases than stand between a ratio and its number."""

STATEMENT = Role("statement")
"""A comma before a word of degree: "no effusion, small pneumothorax"."""


@dataclass(frozen=True)
class Match:
    """A phrase in a sentence. start, end: its tokens in the report. begin, stop: its characters in the report."""

    roles: tuple[Role, ...]
    start: int
    end: int
    begin: int
    stop: int
    text: str

    def role(self, kind: str) -> Role | None:
        """Its role of a kind."""
        return next((role for role in self.roles if role.kind == kind), None)

    @property
    def is_mention(self) -> bool:
        """True for names of findings, and for structures that a predicate may turn into a finding."""
        return any(role.kind in ("term", "subject") for role in self.roles)

    @property
    def is_interpreting(self) -> bool:
        """True for cues which say that a finding explains another one: "probably", "consistent with"."""
        return any(role.kind in ("uncertainty", "interpretation") for role in self.roles)


@dataclass(frozen=True)
class Sentence:
    """A sentence. begin, stop: its characters in the report. matches: in their order, none overlaps another."""

    begin: int
    stop: int
    matches: tuple[Match, ...]


class PhraseFinder:
    """Finds sentences and phrases of one language."""

    def __init__(self, table: LanguageTable) -> None:
        self._nlp: Any = edsnlp.blank("eds")
        self._nlp.add_pipe("eds.sentences", config={"use_bullet_start": True, "ignore_excluded": False})
        self._degrees = _plain_words(table.degrees)
        self._skipped = _plain_words(table.fillers) | self._degrees | _SKIPPED_MARKS
        self._openers = self._degrees | {
            plain(phrase)
            for name in ("L", "R", "B")
            for pattern in table.places[name]
            for phrase in phrases_of(pattern)
        }
        self._continuing = _plain_words(table.list_continues)
        self._abbreviations = _plain_words(table.abbreviations)
        self._roles: list[tuple[Role, ...]] = []
        phrases: dict[tuple[str, ...], list[Role]] = {}
        for phrase, roles in roles_of_phrases(table).items():
            known = phrases.setdefault(self._words(phrase), [])
            known += [role for role in roles if role not in known]
        vocabulary = {word for words in phrases for word in words} | self._skipped | _plain_words(table.function_words)
        self._spell = Speller(vocabulary, correct=_plain_words(table.correct_words))
        self._matcher = EDSPhraseMatcher(self._nlp.vocab, attr="NORM", ignore_excluded=True)
        self._label_roles = {self._add(words): tuple(roles) for words, roles in phrases.items()}
        self._codes: dict[int, tuple[int, int]] = {}
        self._read_ratio = RatioReader(table)

    def __call__(self, text: str) -> list[Sentence]:
        """The sentences of a text, in their order, those without any phrase too. See `MAX_TOKENS`."""
        doc = self._nlp(text)
        if not len(doc):
            return []
        starts = self._normalise(doc)
        found = [self._match(doc, text, *one) for one in _longest([*self._matcher(doc)])]
        if any(match.role("ratio") for match in found):
            found = self._with_ratios(doc, text, found)
        begins = [match.start for match in found]
        sentences = []
        for start, end in pairwise([*_in_parts(starts, len(doc)), len(doc)]):
            matches = tuple(found[bisect_left(begins, start) : bisect_left(begins, end)])
            begin, stop = _characters(doc, start, end)
            sentences.append(Sentence(begin, begin + len(text[begin:stop].rstrip()), matches))
        return sentences

    def _words(self, phrase: str) -> tuple[str, ...]:
        """The words of a phrase that the matcher compares. UserError if it would pass over a word that matters."""
        tokens = [plain(token.text) for token in self._nlp.make_doc(phrase)]
        words = tuple(word for word in tokens if word not in self._skipped)
        degrees = [word for word in tokens if word in self._degrees]
        if degrees or not words:
            which = ", ".join(map(repr, degrees)) or "no word of meaning"
            raise UserError(
                f"phrase {phrase!r} has {which}; words of degree and articles may stand anywhere: leave out"
            )
        return words

    def _add(self, words: tuple[str, ...]) -> int:
        """Add a phrase to the matcher; returns its label."""
        key = " ".join(words)
        doc = Doc(self._nlp.vocab, words=list(words))
        for token, word in zip(doc, words, strict=True):
            token.norm_ = word
        self._matcher.add(key, [doc])
        return int(self._nlp.vocab.strings[key])

    def _normalise(self, doc: Doc) -> list[int]:
        """Set what the matcher compares: the plain spelling, and the tag of skipped words. Returns sentence starts."""
        table = doc.to_array([ORTH, SENT_START])
        codes = [self._codes.get(orth) or self._encode(orth) for orth in table[:, 0].tolist()]
        doc.from_array([NORM, TAG], np.array(codes, dtype=np.uint64))
        starts = np.flatnonzero(table[:, 1] == 1).tolist()
        return [0, *(start for start in starts if start > 0 and not self._is_abbreviation(doc, start))]

    def _encode(self, orth: int) -> tuple[int, int]:
        strings = self._nlp.vocab.strings
        word = self._spell(strings[orth])
        code = strings.add(word), strings.add(SKIPPED) if word in self._skipped or not word.strip() else 0
        self._codes[orth] = code
        return code

    def _is_abbreviation(self, doc: Doc, start: int) -> bool:
        """True if the full stop before `start` belongs to an abbreviation."""
        return start >= 2 and doc[start - 1].text == "." and doc[start - 2].norm_ in self._abbreviations

    def _match(self, doc: Doc, text: str, label: int, start: int, end: int) -> Match:
        roles = self._label_roles[label]
        begin, stop = _characters(doc, start, end)
        if text[begin:stop] == "," and self._begins_statement(doc, end):
            roles = (*roles, STATEMENT)
        return Match(roles, start, end, begin, stop, text[begin:stop])

    def _with_ratios(self, doc: Doc, text: str, found: list[Match]) -> list[Match]:
        """The matches with the numbers of ratios as predicates, in their order. Those inside a number are left out."""
        numbers: list[Match] = []
        for place, match in enumerate(found):
            role = match.role("ratio")
            ratio = self._read_ratio(text, match.stop) if role else None
            span = doc.char_span(ratio.begin, ratio.stop, alignment_mode="expand") if ratio else None
            if not (role and ratio and span):
                continue
            # the text between has few characters, so few phrases
            if not any(one.is_mention and one.start < span.start for one in found[place + 1 : place + 1 + _FEW]):
                said = Role("predicate", role.name, value=ratio.verdict)
                numbers.append(Match((said,), span.start, span.end, ratio.begin, ratio.stop, ratio.text))
        taken = {token for number in numbers for token in range(number.start, number.end)}
        kept = [one for one in found if taken.isdisjoint(range(one.start, one.end))]
        return sorted([*kept, *numbers], key=lambda match: match.start)

    def _begins_statement(self, doc: Doc, place: int) -> bool:
        """True if what follows a comma is no further part of a list: "no effusion, small pneumothorax"."""
        if place >= len(doc):
            return False
        word = doc[place].norm_
        return word in self._openers or (bool(self._continuing) and word not in self._continuing)


def _in_parts(starts: Sequence[int], num_tokens: int) -> Iterator[int]:
    """First tokens of the sentences, and of the parts of long ones."""
    for start, end in pairwise([*starts, num_tokens]):
        yield from range(start, end, MAX_TOKENS)


def _characters(doc: Doc, start: int, end: int) -> tuple[int, int]:
    """First character of a span of tokens, and the one after its last."""
    last = doc[end - 1]
    return doc[start].idx, last.idx + len(last)


def _plain_words(patterns: list[str]) -> set[str]:
    return {plain(word) for pattern in patterns for word in phrases_of(pattern)}


def _longest(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Matches (label, start, end) in the order of the text.

    Of matches that overlap, the longest is kept; if several are equally long, the first.
    """
    taken: set[int] = set()
    kept = []
    for match in sorted(found, key=lambda one: (one[1] - one[2], one[1])):
        tokens = range(match[1], match[2])
        if taken.isdisjoint(tokens):
            taken.update(tokens)
            kept.append(match)
    return sorted(kept, key=lambda one: one[1])
