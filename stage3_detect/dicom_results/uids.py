"""UIDs that follow from facts, so that the same result has the same UIDs whenever it is made."""

import uuid

_NAMESPACE = uuid.UUID("8f1d1a54-0c5e-5b0e-9d0f-3a3f1c2b7e61")


def derived_uid(kind: str, *facts: str) -> str:
    """A UID of the UUID root 2.25 (PS3.5, B.2), the same for the same facts.

    Example:
        >>> derived_uid("study", "1.2.3")
        '2.25.193404331640003024126352323414312023461'
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join((kind, *facts))).int}"
