"""The phrases of a cue table, each with what it does in a sentence."""

from collections import defaultdict
from typing import Literal, NamedTuple, get_args

from stage1_classify.reports.tables import Cues, LanguageTable, phrases_of

CueKind = Literal["negation", "uncertainty", "resolved", "history", "prior", "indication", "limits"]
Kind = (
    CueKind
    | Literal[
        "term",
        "subject",
        "predicate",
        "ratio",
        "neutral",
        "place",
        "mark",
        "remark",
        "interpretation",
        "coordination",
        "joining",
        "list_end",
        "boundary",
        "opening",
        "statement",
    ]
)
Direction = Literal["before", "after", "around", "leading", "trailing", ""]
"""Where a cue stands relative to the finding; "" for phrases that are no cue."""

CUES: tuple[CueKind, ...] = get_args(CueKind)
ANY_SUBJECT = ""
"""A predicate of every subject, such as "normal"."""


class Role(NamedTuple):
    """What a phrase does. name: the finding, place, mark or remark that it names, if any.

    value: of a predicate, "present", "uncertain" or "absent".
    """

    kind: Kind
    name: str = ""
    direction: Direction = ""
    value: str = ""


def roles_of_phrases(table: LanguageTable) -> dict[str, tuple[Role, ...]]:
    """Phrase -> its roles, in a fixed order. A phrase may name several findings: a nodule is a lung lesion."""
    roles: dict[str, list[Role]] = defaultdict(list)

    def add(patterns: list[str], role: Role) -> None:
        for pattern in patterns:
            for phrase in phrases_of(pattern):
                if role not in roles[phrase]:
                    roles[phrase].append(role)

    for name, words in table.findings.items():
        add(words.terms, Role("term", name))
        add(words.subjects, Role("subject", name))
        add(words.ratios, Role("subject", name))
        add(words.ratios, Role("ratio", name))
        for value, patterns in words.predicates.items():
            add(patterns, Role("predicate", name, value=value))
    add(table.normal, Role("predicate", ANY_SUBJECT, value="absent"))
    add(table.borderline, Role("predicate", ANY_SUBJECT, value="uncertain"))
    for kind in CUES:
        cues: Cues = getattr(table, kind)
        add(cues.before, Role(kind, direction="before"))
        add(cues.after, Role(kind, direction="after"))
        add(cues.around, Role(kind, direction="around"))
        add(cues.leading, Role(kind, direction="leading"))
        add(cues.trailing, Role(kind, direction="trailing"))
    for place, patterns in table.places.items():
        add(patterns, Role("place", place))
    add(table.known, Role("mark", "known"))
    add(table.compared, Role("mark", "compared"))
    for remark, patterns in table.remarks.items():
        add(patterns, Role("remark", remark))
    add(table.neutral, Role("neutral"))
    add(table.interpretation, Role("interpretation"))
    add(table.coordination, Role("coordination"))
    add(table.joining, Role("joining"))
    add(table.list_ends, Role("list_end"))
    add(table.boundaries, Role("boundary"))
    add(table.openings, Role("opening"))
    return {phrase: tuple(found) for phrase, found in roles.items()}
