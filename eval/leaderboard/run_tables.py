"""Tables made from the figures of finished runs, by the names in docs/run_folder.md."""

from collections.abc import Iterable, Mapping

from cxr.labels import slug
from cxr.metrics import ReadMetrics
from cxr.runs.run_folder import FinishedRun
from eval.classification.degenerate import verdict
from eval.leaderboard.names import AP40, DETECTOR, TEACHER, ap40_key, box_names, display_name, is_reference, shown_name
from eval.leaderboard.tables import Rows, main_table
from eval.report.blocks import Table
from eval.report.format import Cell, figure_text

CLASSIFIER_COLUMNS = {
    "AUPRC": "auprc",
    "F1": "f1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ECE": "ece",
}


def chosen_method(run: FinishedRun) -> str | None:
    """The CAM method that a stage 2 run chose on its tune split."""
    best = run.manifest.get("best_method")
    return best if isinstance(best, str) else None


def entry_name(run: FinishedRun, name: str) -> str:
    """How tables write an entry of a run; the CAM teacher with its method."""
    teacher = run.manifest.get("teacher_method")
    return shown_name(name, run.metrics, teacher=teacher if isinstance(teacher, str) else None)


def rows_of(run: FinishedRun) -> Rows:
    """The run's entries with an AP40, as rows of the leaderboard's tables and bars of its chart."""
    best, names = chosen_method(run), box_names(run.metrics)
    shown = {name: entry_name(run, name) + " (chosen)" * (name == best) for name in names}
    return Rows(shown, run.metrics, DETECTOR if DETECTOR in names else best or "")


def stage_table(run: FinishedRun, *, name: str) -> Table:
    """The main table of one run: per finding for a classifier (a run with an AUROC), else per entry with boxes."""
    if any(key.startswith("auroc/") for key in run.metrics):
        return _classifier_table(run, name=name)
    rows = rows_of(run)
    title = "Detector" if DETECTOR in rows.shown else "CAM methods"
    return main_table(rows, title=f"{title} · {name}", note=_verdict(run))


def _classifier_table(run: FinishedRun, *, name: str) -> Table:
    names = ["mean", *_finding_slugs(run.metrics, ["auroc"])]
    shown = _finding_names(run) | {"mean": "mean"}
    rows: list[list[Cell]] = []
    for item in names:
        others = [run.metrics.get(f"{metric}/{item}") for metric in CLASSIFIER_COLUMNS.values()]
        positives = run.metrics.get(f"positives/{item}") if item != "mean" else None
        count: Cell = "" if positives is None else f"{positives:.0f}"
        rows.append([shown.get(item, item), figure_text(run.metrics, f"auroc/{item}"), *others, count])
    columns = ["finding", "AUROC [95 %]", *CLASSIFIER_COLUMNS, "positives"]
    note = _verdict(run) or verdict(run.metrics, [shown.get(item, item) for item in names[1:]])
    return Table(f"Classifier · {name}", columns, rows, note, highlight=0)


def _verdict(run: FinishedRun) -> str:
    """The verdict in the run's manifest; "" where there is none."""
    words = run.manifest.get("verdict")
    return words if isinstance(words, str) else ""


def side_by_side(stage: str, runs: Mapping[str, FinishedRun]) -> Table:
    """AUROC or AP40 of several runs of one stage: one column per run, one row per finding or entry."""
    is_classifier = any("auroc/mean" in run.metrics for run in runs.values())
    names: dict[str, str] = {"mean": "mean"} if is_classifier else {}
    for run in runs.values():
        if is_classifier:
            shown = _finding_names(run)
            names |= {item: shown.get(item, item) for item in _finding_slugs(run.metrics, ["auroc"])}
        else:
            names |= {item: _common_name(runs.values(), item) for item in box_names(run.metrics)}

    def value(run: FinishedRun, item: str) -> Cell:
        return run.metrics.get(f"auroc/{item}" if is_classifier else ap40_key(run.metrics, item))

    rows: list[list[Cell]] = [[shown, *(value(run, item) for run in runs.values())] for item, shown in names.items()]
    alike = len({tuple(run.manifest.get("findings") or ()) for run in runs.values()}) == 1
    note = "" if alike else "The runs have different findings, so their means cannot be compared."
    return Table(f"{'AUROC' if is_classifier else 'AP40'} of the runs of {stage}", ["", *runs], rows, note)


def _common_name(runs: Iterable[FinishedRun], name: str) -> str:
    """As `entry_name` where all runs with this entry agree; else without the teacher's method."""
    shown = {entry_name(run, name) for run in runs if name in box_names(run.metrics)}
    return shown.pop() if len(shown) == 1 else display_name(name)


def by_finding(run: FinishedRun, *, name: str) -> Table | None:
    """AP40 per finding of the chosen method or detector, the teacher and the references; None without such figures."""
    chosen = (chosen_method(run), DETECTOR, TEACHER)
    entries = [entry for entry in box_names(run.metrics) if entry in chosen or is_reference(entry)]
    keys = [ap40_key(run.metrics, entry) for entry in entries]
    slugs = _finding_slugs(run.metrics, keys)
    if not slugs:
        return None
    shown = _finding_names(run)
    rows: list[list[Cell]] = [
        [shown.get(item, item), *(run.metrics.get(f"{key}/{item}") for key in keys)] for item in slugs
    ]
    heads = [entry_name(run, entry) for entry in entries]
    return Table(f"{AP40.upper()} per finding · {name}", ["finding", *heads], rows)


def _finding_slugs(metrics: ReadMetrics, keys: Iterable[str]) -> list[str]:
    """The findings for which there is a figure `<key>/<slug>`, in the order of the figures."""
    tails = [name.removeprefix(f"{key}/") for key in keys for name in metrics if name.startswith(f"{key}/")]
    return [tail for tail in dict.fromkeys(tails) if "/" not in tail and tail not in ("mean", "low", "high")]


def _finding_names(run: FinishedRun) -> dict[str, str]:
    """Slug -> name of each finding in the manifest."""
    findings = run.manifest.get("findings")
    return {slug(str(finding)): str(finding) for finding in findings} if isinstance(findings, list) else {}
