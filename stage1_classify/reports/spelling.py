"""Words in one spelling: lower case without accents, and misspelt words of the cue tables corrected."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

MIN_LETTERS, MIN_LETTERS_TWO = 5, 11
"""Shorter words than the first are never corrected, and corrections to shorter words than the second have one edit."""

_LIGATURES = str.maketrans(
    {"œ": "oe", "Œ": "oe", "æ": "ae", "Æ": "ae", "’": "'", "ʼ": "'", "‑": "-", "–": "-"}
    | {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"}  # in text from PDF files
)


def plain(word: str) -> str:
    """A word in lower case, without accents.

    Example:
        >>> plain("Œdème")
        'oedeme'
    """
    decomposed = unicodedata.normalize("NFD", word.translate(_LIGATURES).lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


class Speller:
    """Corrects misspelt words to the words of a vocabulary. Remembers what it has seen."""

    def __init__(self, vocabulary: Iterable[str], *, correct: Iterable[str] = ()) -> None:
        """vocabulary: plain words. correct: further plain words that are not mistakes."""
        words = set(vocabulary)
        self._seen = {word: word for word in words | set(correct)}
        self._by_letter: dict[str, list[str]] = defaultdict(list)
        for word in sorted(words):
            if len(word) >= MIN_LETTERS and word.isalpha():
                self._by_letter[word[0]].append(word)

    def __call__(self, word: str) -> str:
        """The plain word, or the nearest word of the vocabulary with the same first letter."""
        word = plain(word)
        known = self._seen.get(word)
        if known is None:
            known = self._nearest(word) if len(word) >= MIN_LETTERS and word.isalpha() else word
            self._seen[word] = known
        return known

    def _nearest(self, word: str) -> str:
        best, fewest = word, 3
        for candidate in self._by_letter.get(word[0], ()):
            at_most = min(fewest - 1, 2 if len(candidate) >= MIN_LETTERS_TWO else 1)
            if abs(len(candidate) - len(word)) <= at_most:
                num = num_edits(word, candidate, at_most=at_most)
                if num <= at_most:
                    best, fewest = candidate, num
        return best


def num_edits(first: str, second: str, *, at_most: int) -> int:
    """Letters inserted, left out, replaced, or swapped with the next one; `at_most` + 1 if there are more.

    This is the optimal string alignment distance (Damerau 1964).
    """
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        last, row, older = row, [i], before
        for j, b in enumerate(second, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > at_most:
            return at_most + 1
        before = last
    return min(row[-1], at_most + 1)
