"""Side and zone of the findings in a sentence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stage1_classify.reports.clauses import Chunk, linked
from stage1_classify.reports.matching import Match

WITHOUT_SIDE = frozenset(
    {
        "Aortic Enlargement",
        "Cardiomegaly",
        "Enlarged Cardiomediastinum",
        "Enlarged PA",
        "Hernia",
        "Mediastinal Shift",
        "No Finding",
        "Support Devices",
    }
)
"""Findings in the middle of the chest, and devices, which cross it."""


class Place(NamedTuple):
    """side: of the patient, "L", "R", "B" (both), or "" unknown. zone: "upper", "middle", "lower", or "" unknown."""

    side: str
    zone: str


def place_words(
    chunks: Sequence[Chunk],
    places: Sequence[list[Match]],
    *,
    known: Mapping[int, list[Match]],
    number: int,
    mention: Match,
) -> list[Match]:
    """The words which say where a mention in chunk `number` is.

    Those of its own chunk, else those after the finding in a linked later chunk ("effusion and atelectasis at the left
    base"), else those of the chunk before: before its finding ("left effusion and atelectasis"), or anywhere if the
    mention explains that finding ("opacity at the left base, probably atelectasis").

    Args:
        places: (num chunks) words of place of each chunk, see `with_places`.
        known: number of an earlier chunk -> result of this function for its last mention.
    """
    if places[number]:
        return places[number]
    for later in range(number + 1, len(chunks)):
        if not chunks[later].owners or not linked(chunks, number, later):
            continue
        found = [place for place in places[later] if place.start >= chunks[later].owners[-1].end]
        if found:
            return found
    before = next((n for n in range(number - 1, -1, -1) if chunks[n].owners), None)
    if before is None or chunks[before].thought != chunks[number].thought:
        return []
    explains = any(match.is_interpreting and match.start < mention.start for match in chunks[number].matches)
    explains |= any(match.is_interpreting and match.role("uncertainty") for match in chunks[number].matches)
    if explains or (not places[before] and linked(chunks, before, number)):
        return known.get(before, [])
    return [place for place in places[before] if place.start < chunks[before].owners[0].start]


def merged(names: Sequence[str]) -> list[Place]:
    """Places from their words in order: left + base is one place, left + right are both sides.

    Example:
        >>> merged(["R", "- upper", "L", "- lower"])
        [Place(side='R', zone='upper'), Place(side='L', zone='lower')]
    """
    places: list[Place] = []
    side = zone = ""
    for name in names:
        word_side, _, word_zone = name.replace("-", "").partition(" ")
        other_zone = word_zone != "" and zone not in ("", word_zone)
        other_side = word_side != "" and side not in ("", word_side)
        if other_zone or (other_side and zone):
            places.append(Place(side, zone))
            side, zone = word_side or side, word_zone
        else:
            side, zone = "B" if other_side else word_side or side, word_zone or zone
    places.append(Place(side, zone))
    return [place for place in dict.fromkeys(places) if place != ("", "")]


def most_exact(places: Sequence[Place]) -> list[Place]:
    """The places without those that another one gives more exactly: of left and left base, left base."""

    def covers(exact: Place, place: Place) -> bool:
        side = place.side in ("", exact.side) or exact.side == "B"
        return side and place.zone in ("", exact.zone) and exact != place

    return [place for place in dict.fromkeys(places) if not any(covers(exact, place) for exact in places)]
