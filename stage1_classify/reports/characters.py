"""Characters that hide the words of a report, such as a space without width before "No" in "No effusion"."""

import re

_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Soft hyphens, spaces and joiners without width, marks of direction; editors put them between and inside words."""

_CONTROLS = dict.fromkeys([*range(9), *range(14, 32), 127], " ")
_WINDOWS = {code: bytes([code]).decode("cp1252", "replace").replace("\ufffd", " ") for code in range(128, 160)}
"""Signs of cp1252 that were read as Latin-1, where these codes are controls: the apostrophe of "pas d'épanchement"."""
_WINDOWS[0x85] = "\n"  # the line break of mainframes

_REPLACED = str.maketrans(_CONTROLS | _WINDOWS)
_HAS_CONTROLS = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f]")

_WRONG_LETTERS = re.compile("Ã[\x80-\xbf‰]|\ufffd|[a-z][‚Ž][a-z]")
"""é, à and É of UTF-8, and é of DOS and of the Mac, where they were read as cp1252; and what could not be read."""


def readable(text: str) -> str:
    """A report without invisible characters; controls become spaces, or the sign that they stand for."""
    text = _INVISIBLE.sub("", text)
    return text.translate(_REPLACED) if _HAS_CONTROLS.search(text) else text


def has_wrong_letters(text: str) -> bool:
    """Whether a text was decoded as another encoding than its own, so that words with accents are lost."""
    return _WRONG_LETTERS.search(text) is not None
