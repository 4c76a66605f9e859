"""Do the images of a hospital still look like those that a detector was made for? `eval/run.py drift`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.labels import slug
from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from eval.drift.records import FEATURE, REFUSED, ImageRecords, read_records
from eval.report.blocks import Block, Figure, Table, Verdict, write_report
from eval.report.charts import Bar, Histograms, plot_bars, plot_histograms
from eval.report.format import Cell, estimate_text, listed, short_interval
from eval.report.text_tables import print_tables
from eval.stats.paired import ALPHA, holm
from eval.stats.two_sample import TwoSamples, compare_numbers, compare_vectors

MIN_IMAGES = 20
"""With fewer images on a side only gross differences would be found."""

ALL = "all together"
UNLIKENESS = "unlikeness"
"""Statistic of the quality gate that depends on its reference, as the features do."""

_SHOWN_SHIFTS = 6


@dataclass(frozen=True)
class Shift:
    """One number, or all together, in the reference and in the current images. p: corrected for all comparisons."""

    name: str
    result: TwoSamples
    p: float

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def is_clear(self) -> bool:
        """Whether the difference is significant."""
        return self.p < ALPHA


@dataclass(frozen=True)
class DriftResult:
    """shifts: `ALL`, then single numbers, the smallest p-value first. not_compared: names that one side lacks."""

    reference: ImageRecords
    current: ImageRecords
    shifts: tuple[Shift, ...]
    not_compared: tuple[str, ...]

    @property
    def clear(self) -> tuple[Shift, ...]:
        """Significant shifts."""
        return tuple(shift for shift in self.shifts if shift.is_clear)


def add_drift_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    reference = "stage 3 run, or folder of predict.py on good images"
    parser.add_argument("--reference", required=True, type=Path, metavar="RUN|FOLDER", help=reference)
    current = "folder of predict.py, or file of the service's --records"
    parser.add_argument("--current", required=True, type=Path, metavar="FOLDER|FILE", help=current)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/drift"), help="folder of the report (default: runs/drift)"
    )


def report_drift(reference: Path, current: Path, *, out: Path, seed: int = 0) -> Path:
    """Compare two sets of images, print the verdict and a table, write `metrics.json` and `report.html` into `out`.

    Returns:
        the path of the report.

    Raises:
        UserError: a side has no records or fewer than `MIN_IMAGES`, nothing can be compared, or `out` is a run folder.
    """
    refuse_run_folder(out)
    result = find_drift(
        read_records(reference, option="--reference"), read_records(current, option="--current"), seed=seed
    )
    table = _table(result)
    print_tables([table])
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(drift_figures(result), indent=1) + "\n")
    blocks: list[Block] = [*_pictures(result, out), _verdict(result), table]
    lead = f"Reference: {result.reference.source}. Current: {result.current.source}."
    synthetic = result.reference.synthetic or result.current.synthetic
    return write_report(out, title="Drift of the images", lead=lead, blocks=blocks, synthetic=synthetic)


def find_drift(reference: ImageRecords, current: ImageRecords, *, seed: int = 0) -> DriftResult:
    """Compare each number that both sides have, and all together; p-values are corrected by Holm's method.

    Features are compared where both sides have the same gate.

    Raises:
        UserError: fewer than `MIN_IMAGES` on a side, or nothing that both sides have.
    """
    for side, records in (("--reference", reference), ("--current", current)):
        if records.num_images < MIN_IMAGES:
            raise UserError(
                f"{side} {records.source}: {records.num_images} images, expected at least {MIN_IMAGES}; collect more"
            )
    names, not_compared = _common_names(reference, current)
    if not names:
        raise UserError(
            f"--current {current.source}: has no number that --reference {reference.source} has too, and another "
            "quality gate; give records of one detector"
        )
    results = {name: compare_numbers(reference.values[name], current.values[name]) for name in names}
    everything = compare_vectors(_matrix(reference, names), _matrix(current, names), seed=seed)
    corrected = holm([everything.p, *(result.p for result in results.values())])
    single = [Shift(name, results[name], p) for name, p in zip(names, corrected[1:], strict=True)]
    single.sort(key=lambda shift: (shift.p, -abs(shift.result.auroc.value - 0.5)))
    return DriftResult(reference, current, (Shift(ALL, everything, corrected[0]), *single), not_compared)


def _common_names(reference: ImageRecords, current: ImageRecords) -> tuple[list[str], tuple[str, ...]]:
    same_gate = reference.gate == current.gate != ""
    names = [name for name in reference.values if name in current.values and (same_gate or not _is_of_gate(name))]
    everything = dict.fromkeys([*reference.values, *current.values, *reference.partial, *current.partial])
    return names, tuple(name for name in everything if name not in names)


def _is_of_gate(name: str) -> bool:
    return name.startswith(FEATURE) or name in (UNLIKENESS, REFUSED)


def _matrix(records: ImageRecords, names: Sequence[str]) -> Floats:
    return np.stack([records.values[name] for name in names], axis=1)


def drift_figures(result: DriftResult) -> dict[str, float]:
    """Flat figures: `drift` (1 or 0), `auroc/all_together` with its ends, `p/<name>` corrected, ..."""
    figures: dict[str, float] = {
        "drift": float(bool(result.clear)),
        "num_reference": result.reference.num_images,
        "num_current": result.current.num_images,
    }
    for shift in result.shifts:
        name, auroc = slug(shift.name), shift.result.auroc
        figures |= {f"auroc/{name}": auroc.value, f"auroc/{name}/low": auroc.low, f"auroc/{name}/high": auroc.high}
        figures[f"p/{name}"] = shift.p
    return figures


def verdict_text(result: DriftResult) -> str:
    """The first paragraph: drift or none, with the AUROC and its interval. Then what differs."""
    auroc = result.shifts[0].result.auroc
    auroc_text = f"AUROC {short_interval(auroc.value, auroc.low, auroc.high)}"
    sizes = f"{result.current.num_images} current and {result.reference.num_images} reference images"
    if not result.clear:
        return (
            f"No drift is shown: a classifier that separates {sizes} reaches {auroc_text}, and no number differs "
            "significantly."
        )
    names = [shift.title for shift in result.clear if shift.name != ALL]
    differing = f"; significantly different: {listed(names[:_SHOWN_SHIFTS])}" if names else ""
    more = f" and {len(names) - _SHOWN_SHIFTS} more" if len(names) > _SHOWN_SHIFTS else ""
    return f"Drift: a classifier that separates {sizes} reaches {auroc_text}{differing}{more}."


def _verdict(result: DriftResult) -> Verdict:
    note = (
        f"An AUROC of .5 means no difference. p-values below {ALPHA} after Holm's correction for "
        f"{len(result.shifts)} comparisons count. Images of one patient are treated as independent."
    )
    left = f"\n\nNot compared, because a side lacks them: {listed(result.not_compared)}." if result.not_compared else ""
    return Verdict("Verdict", f"{verdict_text(result)}\n\n{note}{left}")


def _table(result: DriftResult) -> Table:
    rows: list[list[Cell]] = []
    for shift in result.shifts:
        sides = [_median(records.values.get(shift.name)) for records in (result.reference, result.current)]
        verdict = "different" if shift.is_clear else ""
        rows.append([shift.title, *sides, estimate_text(shift.result.auroc), _p_text(shift.p), verdict])
    columns = ["number", "reference", "current", "AUROC [95 %]", "p (Holm)", "result"]
    note = (
        "Median and quartiles; shares of 1 for refused images. AUROC: probability that a current image has the higher "
        "value; for all together, of a classifier on images that it was not fitted on."
    )
    return Table("What differs", columns, rows, note)


def _median(values: Floats | None) -> str | None:
    if values is None:
        return None
    if set(np.unique(values)) <= {0.0, 1.0}:
        return f"{values.mean():.3f}"
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _p_text(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _pictures(result: DriftResult, out: Path) -> list[Block]:
    """The numbers that differ most, as histograms of both sides; then the size of all differences."""
    single = result.shifts[1:]
    panels = [
        Histograms(shift.title, _sides(result, shift.name), is_marked=shift.is_clear)
        for shift in single[:_SHOWN_SHIFTS]
    ]
    plot_histograms(out / "pictures" / "shifts.png", panels)
    bars = [Bar.of(shift.title, shift.result.auroc, "marked" if shift.is_clear else "muted") for shift in result.shifts]
    plot_bars(out / "pictures" / "auroc.png", bars, label="AUROC, .5 is no difference")
    return [
        Figure("What differs most", "pictures/shifts.png", "Share of images by value. Bold: significantly different."),
        Figure("Size of the differences", "pictures/auroc.png", "With 95 % intervals. Dark: significantly different."),
    ]


def _sides(result: DriftResult, name: str) -> Mapping[str, Floats]:
    return {"reference": result.reference.values[name], "current": result.current.values[name]}
