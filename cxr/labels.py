"""Canonical names of findings, and the mappings from the names of each data set.

The canonical name is CheXpert's if CheXpert has the finding, otherwise VinDr-CXR's or NIH's. A name without a mapping
is an error; it is never dropped silently.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from cxr.config import UserError

NO_FINDING = "No Finding"
COMPATIBLE_WITH_NO_FINDING = ("Support Devices",)
"""What an image labelled "No Finding" may show."""

CHEXPERT_FINDINGS = (
    NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip

_VINDR_ONLY = (
    "Aortic Enlargement", "Calcification", "Clavicle Fracture", "Emphysema", "Enlarged PA", "ILD", "Infiltration",
    "Lung Cavity", "Lung Cyst", "Mediastinal Shift", "Pleural Thickening", "Pulmonary Fibrosis", "Rib Fracture",
    "Other Lesion", "COPD", "Lung Tumor", "Tuberculosis", "Other Disease",
)  # fmt: skip
_NIH_ONLY = ("Mass", "Nodule", "Hernia")
_TBX11K_ONLY = ("Active Tuberculosis", "Obsolete Tuberculosis")

FINDINGS: tuple[str, ...] = CHEXPERT_FINDINGS + _VINDR_ONLY + _NIH_ONLY + _TBX11K_ONLY

# Child -> parent, only if the meaning of the child implies the parent.
PARENTS: Mapping[str, str] = {
    # CheXpert's own tree: Irvin et al. 2019 (arXiv:1901.07031).
    "Cardiomegaly": "Enlarged Cardiomediastinum",
    "Edema": "Lung Opacity",
    "Consolidation": "Lung Opacity",
    "Pneumonia": "Consolidation",
    "Lung Lesion": "Lung Opacity",
    "Atelectasis": "Lung Opacity",
    # CheXpert's labeller counts these phrases as the parent (nodule, mass, tumour; pleural thickening).
    "Nodule": "Lung Lesion",
    "Mass": "Lung Lesion",
    "Lung Tumor": "Lung Lesion",
    "Pleural Thickening": "Pleural Other",
    # By the words.
    "Infiltration": "Lung Opacity",
    "Clavicle Fracture": "Fracture",
    "Rib Fracture": "Fracture",
}
# Without a parent: ILD, fibrosis, calcification and cavities, which readers often mark without an opacity; emphysema (a
# sign) and COPD (a diagnosis), of which neither implies the other; TBX11K's "Tuberculosis", of unspecified activity.

CHEXPERT_NAMES: Mapping[str, str] = {name: name for name in CHEXPERT_FINDINGS}

# VinDr-CXR (PhysioNet 1.0.0 and Kaggle): 22 local and 6 global labels. Train says "Other diseases", test
# "Other disease". "Nodule/Mass" is CheXpert's "Lung Lesion".
VINDR_NAMES: Mapping[str, str] = {
    "Aortic enlargement": "Aortic Enlargement",
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Clavicle fracture": "Clavicle Fracture",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Enlarged PA": "Enlarged PA",
    "ILD": "ILD",
    "Infiltration": "Infiltration",
    "Lung Opacity": "Lung Opacity",
    "Lung cavity": "Lung Cavity",
    "Lung cyst": "Lung Cyst",
    "Mediastinal shift": "Mediastinal Shift",
    "Nodule/Mass": "Lung Lesion",
    "Pleural effusion": "Pleural Effusion",
    "Pleural thickening": "Pleural Thickening",
    "Pneumothorax": "Pneumothorax",
    "Pulmonary fibrosis": "Pulmonary Fibrosis",
    "Rib fracture": "Rib Fracture",
    "Other lesion": "Other Lesion",
    "COPD": "COPD",
    "Lung tumor": "Lung Tumor",
    "Pneumonia": "Pneumonia",
    "Tuberculosis": "Tuberculosis",
    "Other disease": "Other Disease",
    "Other diseases": "Other Disease",
    "No finding": NO_FINDING,
}

# NIH ChestX-ray14. The box table says "Infiltrate" where the label table says "Infiltration".
NIH_NAMES: Mapping[str, str] = {
    **{name: name for name in ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Hernia")},
    **{name: name for name in ("Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", NO_FINDING)},
    "Effusion": "Pleural Effusion",
    "Fibrosis": "Pulmonary Fibrosis",
    "Infiltrate": "Infiltration",
    "Pleural_Thickening": "Pleural Thickening",
}

TBX11K_NAMES: Mapping[str, str] = {
    "ActiveTuberculosis": "Active Tuberculosis",
    "ObsoletePulmonaryTuberculosis": "Obsolete Tuberculosis",
    "PulmonaryTuberculosis": "Tuberculosis",
}

KERMANY_NAMES: Mapping[str, str] = {"PNEUMONIA": "Pneumonia", "NORMAL": NO_FINDING}


def slug(name: str) -> str:
    """Name of a finding in ``metrics.json``: lower case, every other run of characters an underscore."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def class_slugs(classes: Iterable[str]) -> dict[str, str]:
    """Class -> its unique name in ``metrics.json``, also if slugs are empty, equal, "low" or "high".

    Example:
        >>> class_slugs(["Nodule/Mass", "nodule mass"])
        {'Nodule/Mass': 'nodule_mass', 'nodule mass': 'nodule_mass_2'}
    """
    slugs: dict[str, str] = {}
    for number, name in enumerate(classes, start=1):
        own = slug(name) or "class"
        taken = own in ("class", "low", "high") or own in slugs.values()
        slugs[name] = f"{own}_{number}" if taken else own
    return slugs


def ancestors(finding: str, parents: Mapping[str, str] = PARENTS) -> list[str]:
    """The ancestors of a finding, nearest first. parents: child -> parent."""
    found: list[str] = []
    while (finding := parents.get(finding, "")) and finding not in found:
        found.append(finding)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (nearest: 'x')`` for an error message, or "" if no known name is similar."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (nearest: {by_lower[close[0]]!r})" if close else ""


def map_names(names: Iterable[str], mapping: Mapping[str, str], *, source: str) -> dict[str, str]:
    """Canonical name of each name of a data set. UserError with one line per name that `mapping` lacks."""
    unique = list(dict.fromkeys(names))
    problems = [
        f"{source}: unknown finding {name!r}{nearest(name, mapping)}; "
        f"expected one of {len(mapping)} names; correct the table or add the name in cxr/labels.py"
        for name in unique
        if name not in mapping
    ]
    if problems:
        raise UserError(problems)
    return {name: mapping[name] for name in unique}


def check_findings(names: Iterable[str], known: Iterable[str], *, source: str) -> None:
    """UserError with one line per finding in `names` that is not in `known` or is listed twice."""
    listed, known = list(names), list(known)
    problems = [
        f"{source}: finding {name!r} is not there{nearest(name, known)}; it has {', '.join(known) or 'none'}"
        for name in listed
        if name not in known
    ]
    problems += [
        f"{source}: finding {name!r} is listed {listed.count(name)} times; list it once"
        for name in dict.fromkeys(listed)
        if listed.count(name) > 1
    ]
    if problems:
        raise UserError(problems)
