"""Names of findings in data sets that name few of them, or name them in their own way, and the canonical findings.

The names of CheXpert, VinDr-CXR, NIH ChestX-ray14, TBX11K and Kermany are in `cxr.labels.findings`.
"""

from collections.abc import Mapping

from cxr.labels.findings import NIH_NAMES, NO_FINDING

# RSNA: boxes show opacities that are suspicious of pneumonia. Other opacities (a mass, an effusion) have no box and
# Target 0, so the finding is Pneumonia and not Lung Opacity. The classes are those of stage_2_detailed_class_info.csv.
RSNA_BOX_NAMES: Mapping[str, str] = {"1": "Pneumonia"}
RSNA_CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")

# Google's labels of NIH images (Majkowska et al. 2020).
GOOGLE_NAMES: Mapping[str, str] = {
    "Fracture": "Fracture",
    "Pneumothorax": "Pneumothorax",
    "Airspace opacity": "Lung Opacity",
    "Nodule or mass": "Lung Lesion",
}

# CheXlocalize: "Airspace Opacity" in its masks is CheXpert's "Lung Opacity".
CHEXLOCALIZE_NAMES: Mapping[str, str] = {
    **{name: name for name in ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Edema", "Consolidation")},
    **{name: name for name in ("Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices")},
    "Airspace Opacity": "Lung Opacity",
}

# ChestX-Det10 has the first ten, ChestX-Det all thirteen. Diffuse nodules are nodules.
CHESTXDET10_NAMES: Mapping[str, str] = {
    **{name: NIH_NAMES[name] for name in ("Atelectasis", "Consolidation", "Effusion", "Emphysema", "Fibrosis")},
    **{name: name for name in ("Calcification", "Fracture", "Mass", "Nodule", "Pneumothorax")},
}
CHESTXDET_NAMES: Mapping[str, str] = {
    **CHESTXDET10_NAMES,
    "Cardiomegaly": "Cardiomegaly",
    "Diffuse Nodule": "Nodule",
    "Pleural Thickening": "Pleural Thickening",
}

# PadChest: the labels that mean one of our findings; its other labels (scoliosis, sternotomy) have none. Patterns are
# infiltrates in PadChest's own tree.
_PADCHEST_DEVICES = (
    "electrical device", "pacemaker", "single chamber device", "dual chamber device", "dai", "endotracheal tube",
    "tracheostomy tube", "nsg tube", "chest drain tube", "gastrostomy tube", "central venous catheter",
    "central venous catheter via jugular vein", "central venous catheter via subclavian vein",
    "central venous catheter via umbilical vein", "reservoir central venous catheter",
)  # fmt: skip
_PADCHEST_KINDS: Mapping[str, tuple[str, ...]] = {
    NO_FINDING: ("normal",),
    "Cardiomegaly": ("cardiomegaly",),
    "Enlarged Cardiomediastinum": ("mediastinal enlargement", "superior mediastinal enlargement"),
    "Mediastinal Shift": ("mediastinal shift",),
    "Aortic Enlargement": ("aortic button enlargement", "aortic aneurysm"),
    "Enlarged PA": ("pulmonary artery enlargement",),
    "Atelectasis": (
        "atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis", "round atelectasis",
        "segmental atelectasis", "total atelectasis",
    ),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Infiltration": (
        "infiltrates", "alveolar pattern", "interstitial pattern", "ground glass pattern", "miliary opacities",
        "reticular interstitial pattern", "reticulonodular interstitial pattern",
    ),
    "Edema": ("pulmonary edema",),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Tuberculosis": ("tuberculosis",),
    "Emphysema": ("emphysema",),
    "COPD": ("copd signs",),
    "Pulmonary Fibrosis": ("pulmonary fibrosis",),
    "Nodule": ("nodule", "multiple nodules"),
    "Mass": ("mass", "pulmonary mass"),
    "Lung Cavity": ("cavitation",),
    "Pleural Effusion": ("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Thickening": ("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    "Pleural Other": ("pleural plaques", "calcified pleural plaques"),
    "Calcification": ("calcified densities", "calcified granuloma", "calcified adenopathy"),
    "Hernia": ("hiatal hernia",),
    "Fracture": ("fracture", "vertebral fracture", "humeral fracture"),
    "Clavicle Fracture": ("clavicle fracture",),
    "Rib Fracture": ("rib fracture", "callus rib fracture"),
    "Support Devices": _PADCHEST_DEVICES,
}  # fmt: skip
PADCHEST_NAMES: Mapping[str, str] = {name: finding for finding, names in _PADCHEST_KINDS.items() for name in names}
PADCHEST_BOTH: Mapping[str, tuple[str, ...]] = {"hydropneumothorax": ("pleural effusion", "pneumothorax")}
"""A label that means two findings."""

# Open-i: the first part of a major MeSH term, in lower case. The other terms (spine, scoliosis) have no finding here.
OPENI_NAMES: Mapping[str, str] = {
    "normal": NO_FINDING,
    "cardiomegaly": "Cardiomegaly",
    "pulmonary atelectasis": "Atelectasis",
    "pulmonary edema": "Edema",
    "consolidation": "Consolidation",
    "infiltrate": "Infiltration",
    "opacity": "Lung Opacity",
    "airspace disease": "Lung Opacity",
    "pneumonia": "Pneumonia",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "emphysema": "Emphysema",
    "pulmonary emphysema": "Emphysema",
    "pulmonary fibrosis": "Pulmonary Fibrosis",
    "lung diseases, interstitial": "ILD",
    "nodule": "Nodule",
    "mass": "Mass",
    "hernia, hiatal": "Hernia",
    "calcinosis": "Calcification",
    "calcified granuloma": "Calcification",
    "fractures, bone": "Fracture",
    "tuberculosis": "Tuberculosis",
    "pulmonary disease, chronic obstructive": "COPD",
    "medical device": "Support Devices",
    "implanted medical device": "Support Devices",
    "catheters, indwelling": "Support Devices",
    "tube, inserted": "Support Devices",
}
