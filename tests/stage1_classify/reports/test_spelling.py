"""Plain words, and corrections by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage1_classify.reports.spelling import Speller, num_edits, plain

SPELL = Speller({"pneumothorax", "effusion", "right", "base", "atelectasis"}, correct={"bases", "eight"})


def test_no_word_stays_no_word() -> None:
    assert plain("") == SPELL("") == ""


@pytest.mark.parametrize(
    ("word", "expected"),
    [("Œdème", "oedeme"), ("CÔTÉ", "cote"), ("d’un", "d'un"), ("12", "12"), ("à", "a"), ("e\ufb00usion", "effusion")],
)
def test_plain_words_have_no_accents(word: str, expected: str) -> None:
    assert plain(word) == expected


@pytest.mark.parametrize(
    ("first", "second", "num"),
    [
        ("", "", 0),
        ("", "ab", 2),
        ("left", "left", 0),
        ("left", "lift", 1),
        ("rigth", "right", 1),  # two letters swapped
        ("efusion", "effusion", 1),
        ("effusions", "effusion", 1),
        ("abc", "ca", 3),  # 2 with edits of swapped letters, which this distance does not have
    ],
)
def test_edits_by_hand(first: str, second: str, num: int) -> None:
    assert num_edits(first, second, at_most=9) == num
    assert num_edits(second, first, at_most=9) == num
    assert num_edits(first, second, at_most=0) == min(num, 1)


def slow_edits(first: str, second: str) -> int:
    """The recursive definition."""
    if not first or not second:
        return len(first) + len(second)
    best = min(slow_edits(first[:-1], second) + 1, slow_edits(first, second[:-1]) + 1)
    best = min(best, slow_edits(first[:-1], second[:-1]) + (first[-1] != second[-1]))
    if len(first) > 1 and len(second) > 1 and (first[-1], first[-2]) == (second[-2], second[-1]):
        best = min(best, slow_edits(first[:-2], second[:-2]) + 1)
    return best


@given(st.text("ab", max_size=5), st.text("ab", max_size=5), st.integers(0, 4))
def test_edits_agree_with_the_definition(first: str, second: str, at_most: int) -> None:
    assert num_edits(first, second, at_most=at_most) == min(slow_edits(first, second), at_most + 1)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Effusion", "effusion"),
        ("efusion", "effusion"),
        ("rigth", "right"),
        ("pneumotorax", "pneumothorax"),
        ("pneumtorax", "pneumothorax"),  # two mistakes in a long word
        ("efusin", "efusin"),  # two mistakes in a shorter one
        ("light", "light"),  # another first letter
        ("bse", "bse"),  # too short
        ("bases", "bases"),  # a correct word
        ("1234567", "1234567"),
    ],
)
def test_only_near_words_of_the_vocabulary_are_corrected(word: str, expected: str) -> None:
    assert SPELL(word) == expected
    assert SPELL(word) == expected  # remembered
