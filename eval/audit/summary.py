"""The result of an audit in figures: one line per check, and the content of `audit.json`."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr.datasets.assemble import MISSING, UNREADABLE
from cxr.labels import slug
from cxr.tables import count_reasons
from eval.audit.box_plausibility import FLAGS, suspicious, unboxed
from eval.audit.by_split import num_one_sided
from eval.audit.checks import Audit
from eval.audit.leaks import IDENTICAL, SIMILAR
from eval.audit.overview import finding_counts
from eval.audit.unusual import unusual_images
from eval.report.blocks import Table
from eval.report.format import Cell, json_value, listed

FORMAT = 1


@dataclass(frozen=True)
class Check:
    """A line of the summary. number: how often the check found something; None if the data does not allow it. advice:
    what that means, or what to do. is_error: figures of a model on this data would be wrong; otherwise somebody should
    look at it."""

    what: str
    number: int | None
    advice: str
    is_error: bool = False

    @property
    def result(self) -> str:
        """In a word or two."""
        if self.number is None:
            return "not checked"
        return "ok" if not self.number else ("error" if self.is_error else "look")


def checks_of(audit: Audit) -> list[Check]:
    """All checks, those that can make figures wrong first."""
    audited, copies, sizes = audit.audited, audit.copies, sizes_of(audit)
    excluded = count_reasons(audited.data.excluded)
    labels = {name: audited.data.select(ids).labels[list(audited.findings)] for name, ids in audited.splits.items()}
    unknown = int((audited.data.images["patient_id"] == "").sum())
    judged = bool(audit.checked["judged"].any())
    broken = "cannot be decoded, or all pixels are equal; get them again from the source"
    suspects = "they contradict a model; look at the pictures first" if judged else "no predictions are good enough"
    boxes = "too small, too large, at the border, twice, ..." if sizes["boxes"] else "there are no boxes"
    return [
        Check("settings or data that could not be read", len(audited.problems), "listed below", is_error=True),
        *_leak_checks(audit),
        Check("missing files", excluded.get(MISSING, 0), "listed in the tables, but not on the disk", is_error=True),
        Check("broken files", num_broken(audit), broken, is_error=True),
        Check("images without a known patient", unknown, "patients in two splits cannot be found among them"),
        Check("files that repeat an earlier one", num_identical(audit), "the same bytes under another name"),
        Check("pairs of other images that look the same", _num(copies, SIMILAR), "another size, format or window"),
        Check("copies with different labels", int(copies["labels differ"].sum()), "one of both labels is wrong"),
        Check("copies under different patients", int(copies["patients differ"].sum()), "patients may be mixed up"),
        Check("splits without an image", sum(not ids for ids in audited.splits.values()), "nothing to measure on"),
        Check("findings with one kind of label in a split", num_one_sided(labels), "no AUROC there"),
        Check("suspicious labels", len(audit.suspects) if judged else None, suspects),
        Check("boxes that look wrong", len(suspicious(audit.boxes)) if sizes["boxes"] else None, boxes),
        Check("unusual images", len(unusual_images(audit.facts.table)), "size, shape or exposure far from the others"),
        Check("other exclusions", _num_other(excluded), "see the table of the whole data set"),
    ]


def _leak_checks(audit: Audit) -> list[Check]:
    """Patients and copies in two splits, of each division."""
    if not audit.audited.divisions:
        return [Check("splits", None, "neither the settings nor the release have any")]
    crossing, copies = crossing_numbers(audit), audit.copies
    checks = []
    for name in audit.audited.divisions:
        number = crossing[name]
        advice = "patients are unknown" if number is None else "figures on test are too good: split by patient"
        checks.append(Check(f"patients in two splits of the {name}", number, advice, is_error=True))
        advice = "figures on test are too good: exclude copies from the later split"
        shared = int((copies[name] != "").sum())
        checks.append(Check(f"copies of images in two splits of the {name}", shared, advice, is_error=True))
    return checks


def crossing_numbers(audit: Audit) -> dict[str, int | None]:
    """Division -> number of patients in two of its splits; None if no patient is known."""
    is_known = bool((audit.audited.data.images["patient_id"] != "").any())
    found = audit.crossing["division"]
    return {name: int((found == name).sum()) if is_known else None for name in audit.audited.divisions}


def num_broken(audit: Audit) -> int:
    """Files that exist and cannot be decoded."""
    return len(audit.facts.problems) + count_reasons(audit.audited.data.excluded).get(UNREADABLE, 0)


def num_identical(audit: Audit) -> int:
    """Images whose file repeats an earlier one."""
    return int(audit.copies.loc[audit.copies["kind"] == IDENTICAL, "second"].nunique())


def _num(copies: pd.DataFrame, kind: str) -> int:
    return int((copies["kind"] == kind).sum())


def _num_other(excluded: dict[str, int]) -> int:
    return sum(number for reason, number in excluded.items() if reason not in (MISSING, UNREADABLE))


def summary_table(audit: Audit) -> Table:
    """One row per check; "ok" where it found nothing."""
    rows: list[list[Cell]] = [
        [check.what, check.number, check.result, "" if check.result == "ok" else check.advice]
        for check in checks_of(audit)
    ]
    return Table("Checks", ["check", "number", "result", "what it means"], rows)


def verdict_text(audit: Audit) -> str:
    """The errors in one sentence, then what to look at, then what could not be checked."""
    named: dict[str, list[str]] = {"error": [], "look": [], "not checked": []}
    for check in checks_of(audit):
        if check.result in named:
            named[check.result].append(check.what + ("" if check.number is None else f" ({check.number})"))
    errors = f"Found: {listed(named['error'])}." if named["error"] else "No error was found."
    look = f"To look at: {listed(named['look'])}." if named["look"] else ""
    left = f"Not checked: {listed(named['not checked'])}." if named["not checked"] else ""
    return "\n\n".join(part for part in (errors, look, left) if part)


def size_text(audit: Audit) -> str:
    """Rows, images, patients and boxes in one sentence."""
    sizes = sizes_of(audit)
    patients = f"{sizes['patients']} known patients" if sizes["patients"] else "no known patients"
    return (
        f"{sizes['rows']} rows, {sizes['images']} images that can be decoded, {patients}, {sizes['boxes']} boxes, "
        f"{len(audit.audited.findings)} findings."
    )


def problems_of(audit: Audit) -> list[tuple[str, str]]:
    """What is excluded, broken or could not be read, and why; broken files first."""
    excluded = [(item.what, item.reason) for item in audit.audited.data.excluded]
    return [*audit.facts.problems.items(), *(("", problem) for problem in audit.audited.problems), *excluded]


def sizes_of(audit: Audit) -> dict[str, int]:
    """rows: images that the tables list, also missing and broken ones. images: those that can be decoded."""
    data = audit.audited.data
    excluded = count_reasons(data.excluded)
    known = data.images.loc[data.images["patient_id"] != "", "patient_id"]
    return {
        "rows": len(data.images) + sum(excluded.get(reason, 0) for reason in (MISSING, UNREADABLE)),
        "images": len(audit.facts.table),
        "patients": int(known.nunique()),
        "boxes": len(data.boxes),
    }


def audit_figures(audit: Audit) -> dict[str, Any]:
    """The content of `audit.json`; see docs/data.md."""
    audited, copies = audit.audited, audit.copies
    data, findings = audited.data, list(audited.findings)
    counts = finding_counts(data.labels[findings])
    checked = audit.checked.set_index("finding")
    return dict(
        json_value(
            {
                "format": FORMAT,
                "data_set": data.name,
                "synthetic": data.synthetic,
                **sizes_of(audit),
                "problems": list(audited.problems),
                "excluded": count_reasons(data.excluded),
                "missing_files": count_reasons(data.excluded).get(MISSING, 0),
                "broken_files": num_broken(audit),
                "identical_files": num_identical(audit),
                "identical_groups": int(copies.loc[copies["kind"] == IDENTICAL, "first"].nunique()),
                "similar_pairs": _num(copies, SIMILAR),
                "copies_with_other_labels": int(copies["labels differ"].sum()),
                "splits": {name: {s: len(ids) for s, ids in own.items()} for name, own in audited.divisions.items()},
                "crossing_patients": crossing_numbers(audit),
                "crossing_copies": {name: int((copies[name] != "").sum()) for name in audited.divisions},
                "labels": {slug(str(name)): own for name, own in counts.to_dict("index").items()},
                "label_suspects": {slug(str(name)): own for name, own in checked.to_dict("index").items()},
                "boxes_by_finding": _box_figures(audit),
                "unusual_images": unusual_images(audit.facts.table)["measure"].value_counts().to_dict(),
            }
        )
    )


def _box_figures(audit: Audit) -> dict[str, Any]:
    figures = {}
    for finding, own in audit.boxes.groupby("finding", sort=False):
        flags = {slug(flag): int(own[flag].sum()) for flag in FLAGS}
        positive = unboxed(audit.audited.data, str(finding))
        figures[slug(str(finding))] = {"boxes": len(own), "positives_without_box": positive, **flags}
    return figures
