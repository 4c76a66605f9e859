"""What a sentence says about each finding in it, after ConText (Harkema et al. 2009, doi:10.1016/j.jbi.2009.05.002).

A cue acts inside its clause, on the findings after it, before it, or on both sides. Of several cues the nearest counts.
A structure such as the heart becomes a finding by a predicate in reach: "enlarged", "normal".
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from stage1_classify.reports.clauses import Chunk, chunks_of, linked, with_places
from stage1_classify.reports.matching import Match, Sentence
from stage1_classify.reports.places import WITHOUT_SIDE, Place, merged, place_words
from stage1_classify.reports.vocabulary import ANY_SUBJECT, Role

Verdict = Literal["present", "absent", "uncertain", "ignored"]

IGNORING = ("indication", "history", "prior", "limits")
"""Kinds of cues after which a finding is not counted, the strongest first."""

VERDICT_OF: dict[str, Verdict] = {"negation": "absent", "resolved": "absent", "uncertainty": "uncertain"}

WIDE = ("negation", "indication", "prior")
"""Kinds of cues that reach every later finding of the clause, not only those of their list."""


class Mention(NamedTuple):
    """A finding in a sentence. begin, stop: its characters in the report; cue: likewise, or None.

    reason: the kind of cue that gave the verdict, or "".
    """

    finding: str
    verdict: Verdict
    reason: str
    begin: int
    stop: int
    cue: tuple[int, int] | None
    places: tuple[Place, ...]


class _Cue(NamedTuple):
    match: Match
    role: Role
    chunk: int


def mentions_of(sentence: Sentence) -> list[Mention]:
    """The findings of a sentence, in their order. A phrase that names several findings gives several mentions."""
    chunks = chunks_of(sentence)
    cues = [
        _Cue(match, role, number)
        for number, chunk in enumerate(chunks)
        for match in chunk.matches
        for role in match.roles
        if role.direction or role.kind == "predicate"
    ]
    places = with_places(chunks)
    known: dict[int, list[Match]] = {}
    found: list[Mention] = []
    for number, chunk in enumerate(chunks):
        for match in chunk.mentions:
            words = place_words(chunks, places, known=known, number=number, mention=match)
            known[number] = words
            where = tuple(merged([role.name for word in words if (role := word.role("place"))]))
            found += _mentions(match, _Scope(chunks, cues, number), where)
    return found


class _Scope(NamedTuple):
    """A sentence seen from a mention in chunk `number`."""

    chunks: Sequence[Chunk]
    cues: Sequence[_Cue]
    number: int

    def reaching(self, match: Match) -> Iterator[_Cue]:
        """The cues that act on a mention."""
        for cue in self.cues:
            if cue.role.direction and self._reaches(cue, match):
                yield cue

    def _reaches(self, cue: _Cue, match: Match) -> bool:
        if cue.match.start >= match.end:
            return self._reaches_back(cue)
        return cue.match.end <= match.start and self._reaches_on(cue)

    def _reaches_back(self, cue: _Cue) -> bool:
        """True if a cue acts on a mention before it."""
        if cue.role.direction not in ("after", "around", "trailing"):
            return False
        if cue.role.direction == "trailing" and any(term.start >= cue.match.end for term in self._terms(cue)):
            return False
        return self._follows(cue)

    def _reaches_on(self, cue: _Cue) -> bool:
        """True if a cue acts on a mention after it."""
        if cue.role.direction not in ("before", "around", "leading"):
            return False
        if cue.role.direction == "leading" and any(term.end <= cue.match.start for term in self._terms(cue)):
            return False
        if cue.role.kind == "prior":
            return self.chunks[cue.chunk].thought == self.chunks[self.number].thought
        if cue.role.kind in WIDE:
            return self._same_statement(cue.chunk)
        return linked(self.chunks, cue.chunk, self.number)

    def _follows(self, cue: _Cue) -> bool:
        """True if a later cue is in reach: in the same list, or alone after a comma ("pneumonia, possible")."""
        if linked(self.chunks, self.number, cue.chunk):
            return True
        chunk = self.chunks[cue.chunk]
        is_next = cue.chunk == self.number + 1 and chunk.clause == self.chunks[self.number].clause
        return is_next and chunk.separator == "comma" and not chunk.mentions

    def _terms(self, cue: _Cue) -> list[Match]:
        """The names of findings in the chunk of a cue."""
        return [one for one in self.chunks[cue.chunk].owners if one.role("term")]

    def _same_statement(self, first: int) -> bool:
        """True if no new statement begins after chunk `first`: "no effusion, small pneumothorax"."""
        own = self.chunks[self.number]
        if self.chunks[first].clause != own.clause:
            return False
        later = [chunk for chunk in self.chunks[self.number + 1 :] if chunk.clause == own.clause]
        in_list = own.ends_list or any(chunk.ends_list and chunk.mentions for chunk in later)
        return in_list or not any(chunk.statement for chunk in self.chunks[first + 1 : self.number + 1])


def _mentions(match: Match, scope: _Scope, places: tuple[Place, ...]) -> Iterator[Mention]:
    for role in match.roles:
        if role.kind == "term":
            cue = _winner(match, scope)
            yield _mention(role.name, _verdict(cue), cue, match, places)
        elif role.kind == "subject" and (predicate := _predicate(role.name, match, scope)):
            verdict, cue = _of_subject(predicate, match, scope)
            yield _mention(role.name, verdict, cue, match, places)


def _mention(finding: str, verdict: Verdict, cue: _Cue | None, match: Match, places: tuple[Place, ...]) -> Mention:
    span = (cue.match.begin, cue.match.stop) if cue else None
    reason = cue.role.kind if cue else ""
    where = () if finding in WITHOUT_SIDE else places
    return Mention(finding, verdict, reason, match.begin, match.stop, span, where)


def _winner(match: Match, scope: _Scope) -> _Cue | None:
    """The cue that decides: one that takes the finding out of account, else the nearest."""
    cues = list(scope.reaching(match))
    for kind in IGNORING:
        ignoring = [cue for cue in cues if cue.role.kind == kind]
        if ignoring:
            return ignoring[0]
    deciding = [cue for cue in cues if cue.role.kind in VERDICT_OF]
    nearest = min(deciding, key=lambda cue: _distance(cue.match, match), default=None)
    return nearest and _denied(nearest, deciding, scope)


def _denied(nearest: _Cue, cues: Sequence[_Cue], scope: _Scope) -> _Cue:
    """The negation of an uncertain cue, if there is one: "no signs suggestive of"; else the cue itself."""
    if nearest.role.kind != "uncertainty" or nearest.role.direction != "before":
        return nearest
    mentions = scope.chunks[nearest.chunk].mentions
    for cue in cues:
        is_before = cue.chunk == nearest.chunk and cue.match.end <= nearest.match.start
        between = any(cue.match.end <= mention.start < nearest.match.start for mention in mentions)
        if cue.role.kind == "negation" and is_before and not between:
            return cue
    return nearest


def _verdict(cue: _Cue | None) -> Verdict:
    if cue is None:
        return "present"
    return VERDICT_OF.get(cue.role.kind, "ignored")


def _predicate(finding: str, match: Match, scope: _Scope) -> _Cue | None:
    """The nearest predicate of a structure: in its own chunk, or after it in its list."""
    near = [
        cue
        for cue in scope.cues
        if cue.role.kind == "predicate"
        and cue.role.name in (finding, ANY_SUBJECT)
        and (cue.chunk == scope.number or (cue.chunk > scope.number and linked(scope.chunks, scope.number, cue.chunk)))
    ]
    return min(near, key=lambda cue: _distance(cue.match, match), default=None)


def _of_subject(predicate: _Cue, match: Match, scope: _Scope) -> tuple[Verdict, _Cue]:
    """The verdict of a structure with a predicate, which a cue may turn: "the heart is not enlarged"."""
    given: Verdict = predicate.role.value  # type: ignore[assignment]
    about_subject = _winner(match, scope)
    if about_subject and about_subject.role.kind in IGNORING:
        return "ignored", about_subject
    cue = _winner(predicate.match, _Scope(scope.chunks, _near(scope, predicate), predicate.chunk))
    if cue is None:
        return given, predicate
    if _verdict(cue) == "absent":
        return ("ignored", cue) if given == "absent" else ("absent", cue)
    return _verdict(cue), cue


def _near(scope: _Scope, predicate: _Cue) -> list[_Cue]:
    """The cues in the predicate's own chunk."""
    return [cue for cue in scope.cues if cue.chunk == predicate.chunk]


def _distance(cue: Match, match: Match) -> int:
    return max(cue.start - match.end, match.start - cue.end)
