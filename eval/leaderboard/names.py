"""Names of the entries of a leaderboard: in `metrics.json`, in tables and charts, and in sentences."""

import math
from collections.abc import Iterable

from cxr.metrics import ReadMetrics

AP40, RODEO = "ap40", "rodeo"
DETECTOR, TEACHER, HUMAN, SUPERVISED = "detector", "teacher", "human", "supervised"
PER_FINDING = "per_finding"
"""The entry that uses, for each finding, the method that is best for it on the tune split."""
PRIORS = ("prior_mean_box", "prior_center_box", "prior_no_map")
REFERENCES = ("prior_", HUMAN, SUPERVISED)

FUSIONS = {"maps": "mean map", "boxes": "box fusion"}
"""What an entry of several CAM methods fuses."""

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
    PER_FINDING: "best method per finding",
    "prior_mean_box": "prior: mean box",
    "prior_center_box": "prior: centre box",
    "prior_no_map": "prior: Bayes rule, no map",
    HUMAN: "human ceiling",
    SUPERVISED: "detector on true boxes",
    TEACHER: "CAM teacher",
}
IN_SENTENCES = {
    DETECTOR: "the detector",
    TEACHER: "its CAM teacher",
    SUPERVISED: "the detector trained on true boxes",
    PER_FINDING: "the best method per finding",
    "prior_mean_box": "the mean-box prior",
    "prior_center_box": "the centre-box prior",
    "prior_no_map": "the prior that uses no map",
    HUMAN: "a single radiologist",
}


def fused_name(kind: str, methods: Iterable[str]) -> str:
    """The name of several CAM methods as one. kind: of `FUSIONS`.

    >>> fused_name("maps", ["layercam", "pcam"])
    'maps_layercam+pcam'
    """
    return f"{kind}_{'+'.join(methods)}"


def fusion_of(name: str) -> str:
    """What an entry of several CAM methods fuses, of `FUSIONS`; "" for any other entry."""
    kind, _, methods = name.partition("_")
    return kind if kind in FUSIONS and "+" in methods else ""


def methods_of(name: str) -> tuple[str, ...]:
    """The CAM methods that an entry fuses; the name alone for any other entry.

    >>> methods_of("maps_layercam+pcam"), methods_of("pcam")
    (('layercam', 'pcam'), ('pcam',))
    """
    return tuple(name.partition("_")[2].split("+")) if fusion_of(name) else (name,)


def single_methods(names: Iterable[str]) -> list[str]:
    """The CAM methods that several entries need, each once.

    >>> single_methods(["pcam", "maps_layercam+pcam"])
    ['pcam', 'layercam']
    """
    return list(dict.fromkeys(method for name in names for method in methods_of(name)))


def display_name(name: str) -> str:
    """How a method, prior or detector is written in a table."""
    methods = " + ".join(NAMES.get(method, method) for method in methods_of(name))
    return f"{FUSIONS[fusion_of(name)]} of {methods}" if fusion_of(name) else methods


def sentence_name(name: str) -> str:
    """How it is written within a sentence, with its article."""
    return IN_SENTENCES.get(name, ("the " if fusion_of(name) else "") + display_name(name))


def is_reference(name: str) -> bool:
    """True for entries that are shown for comparison only: priors, the human ceiling, the supervised detector."""
    return name.startswith(REFERENCES)


def ap40_key(figures: ReadMetrics, name: str) -> str:
    """`ap40/<name>`; for the human ceiling `tune_ap40/human` where only tune images were read by several readers."""
    key = f"{AP40}/{name}"
    return f"tune_{key}" if name == HUMAN and key not in figures else key


def box_names(figures: ReadMetrics) -> list[str]:
    """Entries with an AP40: methods and detectors by falling AP40, those without a value last, then the references."""
    keys = [key for key in figures if key.startswith(f"{AP40}/") and key.count("/") == 1]
    names = [key.split("/")[1] for key in keys if "_minus_" not in key]
    if HUMAN not in names and ap40_key(figures, HUMAN) in figures:
        names.append(HUMAN)
    return sorted(names, key=lambda name: (is_reference(name), -or_lowest(figures[ap40_key(figures, name)])))


def shown_name(name: str, figures: ReadMetrics, *, teacher: str | None = None) -> str:
    """As `display_name`, with the method of the CAM teacher, and with the split that the human ceiling is from."""
    if name == TEACHER and teacher is not None:
        return f"{display_name(TEACHER)}: {display_name(teacher)}"
    is_from_tune = ap40_key(figures, name).startswith("tune_")
    return display_name(name) + (" (tune split)" if is_from_tune else "")


def or_lowest(value: float | None) -> float:
    """-1 for an unknown value, so that it ranks below every AP."""
    return -1.0 if value is None or math.isnan(value) else value
