"""Numbers of things, as sentences say them."""


def counted(number: int, thing: str, plural: str = "") -> str:
    """The number with the word in singular or plural. plural: only for words whose plural does not end in s or es.

    Example:
        >>> [counted(number, "box") for number in (0, 1, 1200)]
        ['no boxes', '1 box', '1,200 boxes']
    """
    plural = plural or thing + ("es" if thing.endswith("x") else "s")
    if number == 1:
        return f"1 {thing}"
    return f"{number:,} {plural}" if number else f"no {plural}"
