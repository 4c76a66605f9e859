"""Clauses of a sentence, inside which cues act, and their chunks, inside which sides and predicates act."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from stage1_classify.reports.matching import Match, Sentence

Separator = Literal["", "comma", "joining", "other"]


@dataclass
class Chunk:
    """The part of a clause between two separators.

    separator: what stands before it: "and" or "or" is joining. statement: it begins with a word of degree after a
    comma. ends_list: "or" stands before it. clause, thought: numbers; cues act inside a clause, places in a thought.
    """

    clause: int = 0
    thought: int = 0
    separator: Separator = ""
    statement: bool = False
    ends_list: bool = False
    matches: list[Match] = field(default_factory=list)

    @property
    def mentions(self) -> list[Match]:
        return [match for match in self.matches if match.is_mention]

    @property
    def owners(self) -> list[Match]:
        """The mentions that a place can belong to. "The right lung" is itself a place."""
        return [match for match in self.mentions if not match.role("place")]

    @property
    def places(self) -> list[Match]:
        return [match for match in self.matches if match.role("place")]


def chunks_of(sentence: Sentence) -> list[Chunk]:
    """The chunks of a sentence, in their order."""
    chunks = [Chunk()]
    for match in sentence.matches:
        last = chunks[-1]
        if match.role("boundary"):
            chunks.append(Chunk(last.clause + 1, last.thought + 1))
        elif match.role("opening"):
            chunks.append(Chunk(last.clause + 1, last.thought, "other"))
        elif separator := _separator(match):
            statement = match.role("statement") is not None
            ends_list = match.role("list_end") is not None
            chunks.append(Chunk(last.clause, last.thought, separator, statement, ends_list))
            if any(role.direction for role in match.roles):  # "neither effusion nor pneumothorax"
                chunks[-1].matches.append(match)
        else:
            last.matches.append(match)
    return chunks


def linked(chunks: Sequence[Chunk], first: int, last: int) -> bool:
    """True if two chunks are the same or parts of one list: "A and B", "A, B or C", but not "A, B" or "A with B"."""
    if first == last:
        return True
    first, last = sorted((first, last))
    between = chunks[first + 1 : last + 1]
    if any(chunk.clause != chunks[first].clause or chunk.separator == "other" for chunk in between):
        return False
    return between[-1].separator == "joining" and all(chunk.mentions for chunk in between[:-1])


def with_places(chunks: Sequence[Chunk]) -> list[list[Match]]:
    """The words of place of each chunk, and those of the chunks without a mention next to it.

    "Effusion, larger on the left": the second chunk is about the first. "At the left base, an effusion": the first
    chunk is about the second.
    """
    places: list[list[Match]] = [list(chunk.places) for chunk in chunks]
    owner: int | None = None
    for number, chunk in enumerate(chunks):
        if owner is not None and chunks[owner].thought != chunk.thought:
            owner = None
        if chunk.owners:
            owner = number
        elif owner is not None:
            places[owner] += places[number]
        elif number + 1 < len(chunks) and chunks[number + 1].thought == chunk.thought:
            places[number + 1] = places[number] + places[number + 1]
    return places


def _separator(match: Match) -> Separator:
    if match.role("joining") or match.role("list_end"):
        return "joining"
    if match.role("coordination"):
        return "comma" if match.text == "," else "other"
    return ""
