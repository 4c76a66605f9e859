"""Characters that hide the words of a report, such as a space without width before "No" in "No effusion", and what an
export has put for characters: ``\\n`` for a line break, HTML."""

import html
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

_WRITTEN_BREAK = re.compile(r"(?:\\r)?\\n")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8}[0-9]?);", re.IGNORECASE)
_BLOCK_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|table|tbody|h[1-6]|html|body)\b[^<>]*>", re.IGNORECASE)
_INLINE_TAG = re.compile(r"</?(?:b|i|u|em|strong|span|font|td|th|sup|sub|a)\b[^<>]*>", re.IGNORECASE)
_RTF = re.compile(r"\s*\{\\rtf")


def readable(text: str) -> str:
    """A report without invisible characters and HTML; controls become spaces, or the sign that they stand for, and a
    line break that is written out becomes one.

    Example:
        >>> readable("No&nbsp;effusion.<br>Nodule &lt;5 mm.")
        'No\\xa0effusion.\\nNodule <5 mm.'
    """
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), _WRITTEN_BREAK.sub("\n", text))
    text = _INLINE_TAG.sub(" ", _BLOCK_TAG.sub("\n", text)) if "<" in text else text
    text = _INVISIBLE.sub("", text)
    return text.translate(_REPLACED) if _HAS_CONTROLS.search(text) else text


def is_rtf(text: str) -> bool:
    """Whether a report is in the Rich Text Format of word processors, whose codes hide its words."""
    return _RTF.match(text) is not None


def has_wrong_letters(text: str) -> bool:
    """Whether a text was decoded as another encoding than its own, so that words with accents are lost."""
    return _WRONG_LETTERS.search(text) is not None
