"""Tables over the figures of finished runs, by the names of DESIGN.md; what is not there is a dash."""

from collections.abc import Iterable, Mapping

from cxr.labels import slug
from cxr.runs.run_folder import FinishedRun
from eval.classification.degenerate import verdict
from eval.report.blocks import Table
from eval.report.format import Cell, with_interval

Metrics = Mapping[str, float | None]

REFERENCES = ("prior_", "human", "supervised")
NAMES = {
    "gradcam": "GradCAM",
    "hirescam": "HiResCAM",
    "gradcamelementwise": "GradCAMElementWise",
    "gradcamplusplus": "GradCAM++",
    "xgradcam": "XGradCAM",
    "ablationcam": "AblationCAM",
    "scorecam": "ScoreCAM",
    "scorecambudget": "ScoreCAM budget",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "layercam": "LayerCAM",
    "layercamfusion": "LayerCAM fusion",
    "fullgrad": "FullGrad",
    "dff": "DFF",
    "pcam": "PCAM",
    "per_finding": "best of each finding",
    "prior_mean_box": "prior: mean box",
    "prior_center_box": "prior: centre box",
    "prior_no_map": "prior: Bayes rule, no map",
    "human": "human ceiling",
    "supervised": "detector on true boxes",
    "teacher": "CAM teacher",
}
BOX_COLUMNS = {
    "AP10": "ap10",
    "AP30": "ap30",
    "AP50": "ap50",
    "AP70": "ap70",
    "FROC": "froc",
    "CorLoc": "corloc",
    "pointing": "pointing",
}
"""Beside AP40; those that no entry of a run has are left out, except AP."""
CLASSIFIER_COLUMNS = {
    "AUPRC": "auprc",
    "F1": "f1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ECE": "ece",
}


def display_name(method: str) -> str:
    """How a method, prior or detector is written in a table."""
    return NAMES.get(method, method)


def is_reference(method: str) -> bool:
    """True for what is printed beside for comparison: priors, the human ceiling, the supervised detector."""
    return method.startswith(REFERENCES)


def chosen_method(run: FinishedRun) -> str | None:
    """The CAM method that a stage 2 run chose on its tune split."""
    best = run.manifest.get("best_method")
    return best if isinstance(best, str) else None


def box_names(metrics: Metrics) -> list[str]:
    """What has an AP40 (see `ap40_key`): methods by falling AP40, unknown ones last, then the references."""
    keys = [key for key in metrics if key.startswith("ap40/") and key.count("/") == 1]
    names = [key.split("/")[1] for key in keys if "_minus_" not in key]
    if "human" not in names and ap40_key(metrics, "human") in metrics:
        names.append("human")
    return sorted(names, key=lambda name: (is_reference(name), -(metrics[ap40_key(metrics, name)] or -1.0)))


def ap40_key(metrics: Metrics, method: str) -> str:
    """Name of its figure: `ap40/<method>`; of readers the tune split's where the test split has no single readers."""
    key = f"ap40/{method}"
    return f"tune_{key}" if method == "human" and key not in metrics else key


def shown_name(run: FinishedRun, method: str) -> str:
    """How a row of a run is written: with what the teacher is, and whose split a figure of readers is of."""
    teacher = run.manifest.get("teacher_method")
    if method == "teacher" and isinstance(teacher, str):
        return f"{display_name(method)}: {display_name(teacher)}"
    is_of_tune = ap40_key(run.metrics, method).startswith("tune_")
    return display_name(method) + (" (tune split)" if is_of_tune else "")


def stage_table(run: FinishedRun, *, name: str) -> Table:
    """The main table of one run: of a classifier when it has an AUROC, else of boxes."""
    if any(key.startswith("auroc/") for key in run.metrics):
        return _classifier_table(run, name=name)
    return _boxes_table(run, name=name)


def _classifier_table(run: FinishedRun, *, name: str) -> Table:
    names = ["mean", *_finding_slugs(run)]
    shown = _finding_names(run) | {"mean": "mean"}
    rows: list[list[Cell]] = []
    for item in names:
        value, interval = _point(run.metrics, f"auroc/{item}")
        beside = [run.metrics.get(f"{metric}/{item}") for metric in CLASSIFIER_COLUMNS.values()]
        positives = run.metrics.get(f"positives/{item}") if item != "mean" else None
        count: Cell = "" if positives is None else f"{positives:.0f}"
        rows.append([shown.get(item, item), value, interval, *beside, count])
    columns = ["finding", "AUROC", "95 % interval", *CLASSIFIER_COLUMNS, "positives"]
    note = _verdict(run) or verdict(run.metrics, [shown.get(item, item) for item in names[1:]])
    return Table(f"Classifier · {name}", columns, rows, note, highlight=0)


def _boxes_table(run: FinishedRun, *, name: str) -> Table:
    metrics, best = run.metrics, chosen_method(run)
    methods = box_names(metrics)
    columns = {
        head: measure
        for head, measure in BOX_COLUMNS.items()
        if head.startswith("AP") or any(f"{measure}/{method}" in metrics for method in methods)
    }
    rows: list[list[Cell]] = []
    for method in methods:
        value, interval = _point(metrics, ap40_key(metrics, method))
        shown = shown_name(run, method) + " (chosen)" * (method == best)
        beside = [metrics.get(f"{measure}/{method}") for measure in columns.values()]
        rows.append([shown, value, interval, *beside, _milliseconds(metrics, method)])
    picked = "detector" if "detector" in methods else best
    title = "Detector" if "detector" in methods else "CAM methods"
    heads = ["boxes by", "AP40", "95 % interval", *columns, "ms/image"]
    highlight = methods.index(picked) if picked in methods else None
    return Table(f"{title} · {name}", heads, rows, _verdict(run), highlight)


def _verdict(run: FinishedRun) -> str:
    """The run's own words on what is really better, or on what its classifier is worth."""
    words = run.manifest.get("verdict")
    return words if isinstance(words, str) else ""


def side_by_side(stage: str, runs: Mapping[str, FinishedRun]) -> Table:
    """The main figure of several runs of one stage, a column each; a row where any of them has a figure."""
    prefix = "auroc" if any("auroc/mean" in run.metrics for run in runs.values()) else "ap40"
    names: dict[str, str] = {"mean": "mean"} if prefix == "auroc" else {}
    for run in runs.values():
        if prefix == "auroc":
            shown = _finding_names(run)
            names |= {item: shown.get(item, item) for item in _finding_slugs(run)}
        else:
            names |= {item: _shown_alike(runs.values(), item) for item in box_names(run.metrics)}

    def value(run: FinishedRun, item: str) -> Cell:
        return run.metrics.get(f"auroc/{item}" if prefix == "auroc" else ap40_key(run.metrics, item))

    rows: list[list[Cell]] = [
        [shown, *(value(run, item) for run in runs.values())] for item, shown in names.items()
    ]
    alike = len({tuple(run.manifest.get("findings") or ()) for run in runs.values()}) == 1
    note = "" if alike else "The runs have different findings, so their means cannot be compared."
    return Table(f"{prefix.upper()} of the runs of {stage}", ["", *runs], rows, note)


def _shown_alike(runs: Iterable[FinishedRun], method: str) -> str:
    """As `shown_name` where all runs that have it agree; else without what differs, such as the teacher's method."""
    shown = {shown_name(run, method) for run in runs if method in box_names(run.metrics)}
    return shown.pop() if len(shown) == 1 else display_name(method)


def by_finding(run: FinishedRun, *, name: str) -> Table | None:
    """AP40 of each finding: the chosen method or the detector, beside teacher and priors; None without any."""
    best = chosen_method(run)
    methods = [m for m in box_names(run.metrics) if m in (best, "detector", "teacher") or is_reference(m)]
    shown = _finding_names(run)
    keys = [ap40_key(run.metrics, method) for method in methods]
    slugs = _second_parts(run.metrics, [f"{key}/" for key in keys])
    if not slugs:
        return None
    rows: list[list[Cell]] = [
        [shown.get(item, item), *(run.metrics.get(f"{key}/{item}") for key in keys)] for item in slugs
    ]
    heads = [shown_name(run, method) for method in methods]
    return Table(f"AP40 by finding · {name}", ["finding", *heads], rows)


def _finding_slugs(run: FinishedRun) -> list[str]:
    return _second_parts(run.metrics, ["auroc/"])


def _second_parts(metrics: Metrics, prefixes: Iterable[str]) -> list[str]:
    """What follows directly after a prefix, in the order of the figures, without mean and interval ends."""
    tails = [key.removeprefix(p) for p in prefixes for key in metrics if key.startswith(p)]
    return [t for t in dict.fromkeys(tails) if "/" not in t and t not in ("mean", "low", "high")]


def _finding_names(run: FinishedRun) -> dict[str, str]:
    """Slug -> name, as far as the manifest tells."""
    findings = run.manifest.get("findings")
    return {slug(str(f)): str(f) for f in findings} if isinstance(findings, list) else {}


def _point(metrics: Metrics, name: str) -> tuple[Cell, str]:
    low, high = metrics.get(f"{name}/low"), metrics.get(f"{name}/high")
    return metrics.get(name), with_interval(None, low, high)


def _milliseconds(metrics: Metrics, method: str) -> Cell:
    value = metrics.get(f"ms_per_image/{method}")
    return None if value is None else f"{value:.1f}"
