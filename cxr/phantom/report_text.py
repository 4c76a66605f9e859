"""Reports in English and French, written from the phantom's labels and the places of its findings."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cxr.labels import CHEXPERT_FINDINGS, NO_FINDING, Language
from cxr.phantom.canvas import Frame
from cxr.phantom.scene import Box
from cxr.phantom.wording import WORDINGS, Side, Wording, Zone

MIDDLE = frozenset({"Aortic Enlargement", "Enlarged Cardiomediastinum", "Cardiomegaly", "Edema", "Support Devices"})
"""Findings without a side in reports."""

SILENT, QUESTION, EARLIER, REMARK, MISSPELT = 0.12, 0.5, 0.15, 0.1, 0.1
"""How often a report leaves out the place of a finding, begins with the question of the examination, compares with an
earlier image, remarks on the image's quality, and has a misspelt word."""


class Place(NamedTuple):
    """Where a finding is: the patient's side and the zone of the lung, "" if unknown."""

    side: Side
    zone: Zone


def place_of(boxes: Sequence[Box], frame: Frame) -> Place:
    """The place of a finding with these boxes (xyxy, pixels). Boxes on both sides share a zone, or have none."""
    places = {_one_place(box, frame) for box in boxes}
    sides = {place.side for place in places}
    zones = {place.zone for place in places}
    zone = zones.pop() if len(zones) == 1 else ""
    if len(sides) == 1:
        return Place(sides.pop(), zone)
    return Place("B", "lower" if zone == "lower" else "")


def _one_place(box: Box, frame: Frame) -> Place:
    """A picture's left is the patient's right."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    h, w = frame.size_hw
    row, column = min(int(y), h - 1), min(int(x), w - 1)
    u, v = (float(layer[row, column]) for layer in frame.grid)
    return Place("R" if u < 0 else "L", "upper" if v < 0.36 else "middle" if v < 0.64 else "lower")


def write_report(
    labels: Sequence[float | None], places: Mapping[str, Place], *, language: Language, rng: np.random.Generator
) -> str:
    """A report that says what the labels say.

    Args:
        labels: the 14 CheXpert labels: 1, 0, -1 (uncertain), None (not mentioned).
        places: of the findings that are in the image. A finding without a place gets a random side.
    """
    words = WORDINGS[language]
    said = {name: label for name, label in zip(CHEXPERT_FINDINGS, labels, strict=True) if label is not None}
    sentences = [_affirmed(name, label, places, words, rng) for name, label in said.items() if name in words.names]
    sentences = [sentence for sentence in sentences if sentence]
    sentences += _denied([name for name, label in said.items() if label == 0 and name in words.names], words, rng)
    rng.shuffle(sentences)
    if said.get(NO_FINDING) == 1:
        sentences.append(_pick(words.normal, rng))
    if rng.random() < REMARK:
        sentences.append(_pick(words.remarks, rng))
    body = " ".join(sentences)
    if rng.random() < MISSPELT:
        body = _misspelt(body, rng)
    if rng.random() < QUESTION:
        question, findings = words.headings
        body = f"{question} {_question(words, rng)}\n{findings} {body}"
    return body


def _affirmed(name: str, label: float, places: Mapping[str, Place], words: Wording, rng: np.random.Generator) -> str:
    """A sentence about a positive or uncertain finding; "" for a negative one."""
    if label == 0:
        return ""
    place = places.get(name) or Place("L" if rng.random() < 0.5 else "R", "")
    where = "" if name in MIDDLE or rng.random() < SILENT else _where(place, words, rng)
    text = _pick(words.present if label == 1 else words.uncertain, rng)
    start = _pick(words.earlier, rng) if label == 1 and rng.random() < EARLIER else ""
    return start + _filled(
        text, name=_pick(words.names[name], rng), where=where, begins=not start.endswith((", ", ": "))
    )


def _where(place: Place, words: Wording, rng: np.random.Generator) -> str:
    known = words.places.get((place.side, place.zone)) or words.places[place.side, ""]
    return _pick(known, rng)


def _denied(names: list[str], words: Wording, rng: np.random.Generator) -> list[str]:
    """Sentences about negative findings, two of them sometimes in one."""
    if len(names) >= 2 and rng.random() < 0.5:
        first, last = (_bare(_pick(words.names[name], rng)) for name in names[:2])
        pair = words.several_absent.format(first=first, last=last)
        return [pair, *_denied(names[2:], words, rng)]
    return [_filled(_pick(words.absent, rng), name=_pick(words.names[name], rng), where="") for name in names]


def _question(words: Wording, rng: np.random.Generator) -> str:
    finding = _pick(sorted(words.names), rng)
    return _filled(_pick(words.questions, rng), name=_pick(words.names[finding], rng), where="")


def _filled(text: str, *, name: str, where: str, begins: bool = True) -> str:
    """The sentence, with single spaces and a capital."""
    bare = _bare(name)
    of = f"d'{bare}" if bare[0].lower() in "aeéèiouœ" else f"de {bare}"
    words = " ".join(text.format(name=name, bare=bare, of=of, where=where).split()).replace(" .", ".")
    return words[0].upper() + words[1:] if begins else words[0].lower() + words[1:]


def _bare(name: str) -> str:
    """A name without its article: "no pneumothorax"."""
    article, _, rest = name.partition(" ")
    return rest if article in ("a", "an", "some", "un", "une") else name


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _misspelt(text: str, rng: np.random.Generator) -> str:
    """The text with two letters swapped in one of its long words."""
    words = text.split(" ")
    long = [number for number, word in enumerate(words) if len(word) >= 9 and word.isalpha()]
    if not long:
        return text
    number = long[int(rng.integers(len(long)))]
    word = words[number]
    at = int(rng.integers(2, len(word) - 2))
    words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
