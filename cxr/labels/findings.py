"""The built-in findings: canonical names, their tree, and the mappings from the names of each data set.

The canonical name is CheXpert's if CheXpert has the finding, otherwise VinDr-CXR's or NIH's. A name without a mapping
is an error; it is never dropped silently.
"""

from collections.abc import Mapping

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

VINDR_GLOBAL = frozenset({NO_FINDING, "COPD", "Lung Tumor", "Pneumonia", "Tuberculosis", "Other Disease"})
"""VinDr-CXR's findings of the whole image, which have no boxes."""

KAGGLE_CLASSES = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "No finding",
)  # fmt: skip
"""The names in Kaggle's release of VinDr-CXR, by its class_id from 0 to 14."""

# NIH ChestX-ray14. The box table says "Infiltrate" where the label table says "Infiltration".
NIH_NAMES: Mapping[str, str] = {
    **{name: name for name in ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Hernia")},
    **{name: name for name in ("Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", NO_FINDING)},
    "Effusion": "Pleural Effusion",
    "Fibrosis": "Pulmonary Fibrosis",
    "Infiltrate": "Infiltration",
    "Pleural_Thickening": "Pleural Thickening",
}

NIH_BOXED = frozenset(
    {"Atelectasis", "Cardiomegaly", "Pleural Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"}
)
"""The findings with boxes in NIH ChestX-ray14."""

TBX11K_NAMES: Mapping[str, str] = {
    "ActiveTuberculosis": "Active Tuberculosis",
    "ObsoletePulmonaryTuberculosis": "Obsolete Tuberculosis",
    "PulmonaryTuberculosis": "Tuberculosis",
}

KERMANY_NAMES: Mapping[str, str] = {"PNEUMONIA": "Pneumonia", "NORMAL": NO_FINDING}

RELEASED_NAMES: Mapping[str, str] = {**CHEXPERT_NAMES, **VINDR_NAMES, **NIH_NAMES, **TBX11K_NAMES, **KERMANY_NAMES}
"""Every name in a data set -> canonical finding. No name means two findings."""
