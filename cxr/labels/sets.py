"""What each data set says of each finding: the table of `python -m cxr.labels`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cxr.labels.findings import (
    CHEXPERT_NAMES,
    KAGGLE_CLASSES,
    KERMANY_NAMES,
    NIH_BOXED,
    NIH_NAMES,
    NO_FINDING,
    TBX11K_NAMES,
    VINDR_GLOBAL,
    VINDR_NAMES,
)
from cxr.labels.names import ancestors
from cxr.labels.release_names import (
    CHESTXDET_NAMES,
    CHEXLOCALIZE_NAMES,
    GOOGLE_NAMES,
    OPENI_NAMES,
    PADCHEST_NAMES,
    RSNA_BOX_NAMES,
)
from cxr.labels.terminology import Terminology

LEGEND = (
    "+ positive, - negative, ? uncertain, . not mentioned, b boxes. A blank cell: the data set was not asked for the "
    "finding, so its absence is unknown."
)


@dataclass(frozen=True)
class ReleasedSet:
    """A data set. names: its own name -> canonical finding. values: what a label may be. boxed: findings with boxes.

    absence: what a finding that an image does not have looks like. source: paper or release.
    """

    name: str
    names: Mapping[str, str]
    values: str
    boxed: frozenset[str]
    absence: str
    source: str


SETS = (
    ReleasedSet(
        "chexpert",
        CHEXPERT_NAMES,
        "+-?.",
        frozenset(),
        "Blank is not mentioned, mostly absent; 0 is denied in the report. The valid and test parts have 1 and 0 only.",
        "Irvin et al. 2019, arXiv:1901.07031",
    ),
    ReleasedSet("mimic", CHEXPERT_NAMES, "+-?.", frozenset(), "As chexpert.", "Johnson et al. 2019, arXiv:1901.07042"),
    ReleasedSet(
        "chexlocalize",
        CHEXLOCALIZE_NAMES,
        "+-",
        frozenset(CHEXLOCALIZE_NAMES.values()),
        "Radiologists of CheXpert's valid and test part said 0.",
        "Saporta et al. 2022, doi:10.1038/s42256-022-00536-x",
    ),
    ReleasedSet(
        "padchest",
        PADCHEST_NAMES,
        "+-",
        frozenset(),
        "What the labels of a report do not list counts as absent.",
        "Bustos et al. 2020, arXiv:1901.07441",
    ),
    ReleasedSet(
        "openi",
        OPENI_NAMES,
        "+-",
        frozenset(),
        "What the index of a report does not list counts as absent.",
        "Demner-Fushman et al. 2016, doi:10.1093/jamia/ocv080",
    ),
    ReleasedSet(
        "vindr",
        VINDR_NAMES,
        "+-",
        frozenset(VINDR_NAMES.values()) - VINDR_GLOBAL,
        "Readers were asked for all findings, so what they did not mark is absent.",
        "Nguyen et al. 2022, doi:10.1038/s41597-022-01498-w (PhysioNet)",
    ),
    ReleasedSet(
        "kaggle",
        {name: VINDR_NAMES[name] for name in KAGGLE_CLASSES},
        "+-",
        frozenset(VINDR_NAMES[name] for name in KAGGLE_CLASSES) - {NO_FINDING},
        "As vindr, of which it is a part with fewer findings.",
        "kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection",
    ),
    ReleasedSet(
        "nih",
        NIH_NAMES,
        "+-",
        NIH_BOXED,
        "What the report does not name counts as absent; nobody looked for it.",
        "Wang et al. 2017, arXiv:1705.02315",
    ),
    ReleasedSet(
        "google",
        GOOGLE_NAMES,
        "+-?",
        frozenset(),
        "Radiologists said NO; NIH images with `relabels`.",
        "Majkowska et al. 2020, doi:10.1148/radiol.2019191293",
    ),
    ReleasedSet(
        "rsna",
        RSNA_BOX_NAMES,
        "+-",
        frozenset(RSNA_BOX_NAMES.values()),
        "No opacity that is suspicious of pneumonia; other opacities may be there.",
        "Shih et al. 2019, doi:10.1148/ryai.2019180041",
    ),
    ReleasedSet(
        "siim",
        {"Pneumothorax": "Pneumothorax"},
        "+-",
        frozenset({"Pneumothorax"}),
        "No mask.",
        "kaggle.com/c/siim-acr-pneumothorax-segmentation",
    ),
    ReleasedSet(
        "chestxdet",
        CHESTXDET_NAMES,
        "+-",
        frozenset(CHESTXDET_NAMES.values()),
        "Every image was read for all findings of the set (Det10: ten of them).",
        "Liu et al. 2020, arXiv:2006.10550",
    ),
    ReleasedSet(
        "tbx11k",
        TBX11K_NAMES,
        "+-.",
        frozenset(TBX11K_NAMES.values()),
        "Absent in images of healthy and otherwise sick people; not mentioned in an image of tuberculosis without box.",
        "Liu et al. 2020 (CVPR), mmcheng.net/tb",
    ),
    ReleasedSet(
        "kermany",
        KERMANY_NAMES,
        "+-",
        frozenset(),
        "No Finding means that there is no pneumonia; nothing else was asked.",
        "Kermany et al. 2018, doi:10.17632/rscbjbr9sj",
    ),
)

RELEASED = frozenset(name for one in SETS for name in one.names.values())
"""The findings that a data set has."""


def sets_table(terms: Terminology) -> list[list[str]]:
    """A header and a row per finding: its ancestors, other names, and what each data set says of it."""
    rows = [["finding", "parents", "other names", *(one.name for one in SETS)]]
    for finding in terms.findings:
        above = " > ".join(ancestors(finding, terms.parents))
        others = ", ".join(name for name, own in terms.synonyms.items() if own == finding)
        rows.append([finding, above, others, *(_can_say(finding, one, terms) for one in SETS)])
    return rows


def _can_say(finding: str, released: ReleasedSet, terms: Terminology) -> str:
    """What a data set says of a finding, also through the findings that became it and the children of an own parent."""
    own = {name: terms.synonyms.get(name, name) for name in released.names.values()}
    direct = [name for name, now in own.items() if now == finding]
    below = [name for name, now in own.items() if finding in ancestors(now, terms.parents)]
    if not direct and (finding in RELEASED or not below):
        return ""
    values = released.values if direct else "".join(value for value in released.values if value != "-")
    return values + ("b" if released.boxed & {*(direct or below)} else "")


def as_lines(rows: Iterable[list[str]]) -> list[str]:
    """The table as text, with columns of equal width."""
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
