"""How the phantom's radiologists write, in English and French.

These words are written without the cue tables of the report labeller, so that labels from reports have mistakes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cxr.labels import Language

Side = Literal["L", "R", "B", ""]
Zone = Literal["upper", "middle", "lower", ""]


@dataclass(frozen=True)
class Wording:
    """The words of one language.

    In sentences {name} is a finding, {bare} the same without its article, {of} "de" or "d'" before that, and {where}
    the finding's place or nothing.
    """

    names: Mapping[str, Sequence[str]]
    places: Mapping[tuple[Side, Zone], Sequence[str]]
    present: Sequence[str]
    uncertain: Sequence[str]
    absent: Sequence[str]
    several_absent: str
    """{first} and {last} are names without article."""
    normal: Sequence[str]
    questions: Sequence[str]
    """What the examination was asked for; {name} is a finding that need not be there."""
    earlier: Sequence[str]
    """Beginnings of a sentence about a finding that was there before."""
    remarks: Sequence[str]
    headings: tuple[str, str]
    """Of the question, and of the findings."""


ENGLISH = Wording(
    names={
        "Enlarged Cardiomediastinum": ["widening of the mediastinum", "mediastinal widening"],
        "Cardiomegaly": ["cardiomegaly", "enlargement of the heart", "cardiac enlargement"],
        "Lung Opacity": ["an area of increased opacity", "a hazy density", "patchy shadowing"],
        "Lung Lesion": ["a round nodule", "a mass", "a well-defined nodular lesion"],
        "Edema": ["pulmonary edema", "vascular congestion", "interstitial oedema"],
        "Consolidation": ["consolidation", "airspace consolidation", "a consolidated area"],
        "Pneumonia": ["pneumonia", "an infectious infiltrate", "bronchopneumonia"],
        "Atelectasis": ["atelectasis", "plate-like atelectasis", "some volume loss"],
        "Pneumothorax": ["a pneumothorax", "a pleural air collection", "a small pneumothorax"],
        "Pleural Effusion": ["a pleural effusion", "pleural fluid", "an effusion"],
        "Support Devices": ["a central venous catheter", "an endotracheal tube", "a pacemaker", "a chest drain"],
    },
    places={
        ("L", ""): ["on the left", "in the left hemithorax"],
        ("R", ""): ["on the right", "in the right hemithorax"],
        ("B", ""): ["on both sides", "bilaterally"],
        ("L", "upper"): ["in the left upper lobe", "at the left apex"],
        ("R", "upper"): ["in the right upper zone", "at the right lung apex"],
        ("L", "middle"): ["in the left mid zone", "next to the left hilum"],
        ("R", "middle"): ["in the right middle zone", "in the right perihilar region"],
        ("L", "lower"): ["at the left base", "in the left lower lobe"],
        ("R", "lower"): ["at the right lung base", "in the right lower zone"],
        ("B", "lower"): ["at both bases", "in both lower lobes"],
    },
    present=[
        "There is {name} {where}.",
        "{name} {where}.",
        "We see {name} {where}.",
        "{name} is demonstrated {where}.",
        "The image shows {name} {where}.",
    ],
    uncertain=[
        "{name} {where} is possible.",
        "There may be {name} {where}.",
        "{name} {where} cannot be ruled out.",
        "Appearances raise the suspicion of {name} {where}.",
    ],
    absent=["No {bare}.", "There is no sign of {name}.", "{name} is not seen.", "No evidence of {name}."],
    several_absent="Neither {first} nor {last} is visible.",
    normal=["Normal appearance of the chest.", "No abnormality detected.", "Normal chest radiograph."],
    questions=["Fever and cough, {name}?", "Please exclude {name}.", "Shortness of breath, to rule out {name}."],
    earlier=["Compared with the last film: ", "As on the previous examination, ", "Follow-up. "],
    remarks=["The costophrenic angles are cut off.", "Shallow inspiration.", "The patient is rotated."],
    headings=("Clinical question:", "Findings:"),
)

FRENCH = Wording(
    names={
        "Enlarged Cardiomediastinum": ["un élargissement du médiastin", "un élargissement médiastinal"],
        "Cardiomegaly": ["une cardiomégalie", "une augmentation du volume cardiaque", "un gros cœur"],
        "Lung Opacity": ["une opacité", "une plage d'opacité mal limitée", "un voile"],
        "Lung Lesion": ["un nodule arrondi", "une masse", "une lésion nodulaire bien limitée"],
        "Edema": ["un œdème pulmonaire", "une surcharge vasculaire", "une redistribution vasculaire"],
        "Consolidation": ["une condensation", "un foyer de condensation", "une condensation alvéolaire"],
        "Pneumonia": ["une pneumopathie", "un foyer infectieux", "une pneumonie"],
        "Atelectasis": ["une atélectasie", "une atélectasie en bande", "un trouble de ventilation"],
        "Pneumothorax": ["un pneumothorax", "un décollement pleural gazeux", "un petit pneumothorax"],
        "Pleural Effusion": ["un épanchement pleural", "un épanchement liquidien", "une lame d'épanchement"],
        "Support Devices": [
            "une voie veineuse centrale",
            "une sonde d'intubation",
            "un pacemaker",
            "un drain thoracique",
        ],
    },
    places={
        ("L", ""): ["à gauche", "de l'hémithorax gauche"],
        ("R", ""): ["à droite", "de l'hémithorax droit"],
        ("B", ""): ["des deux côtés", "de façon bilatérale"],
        ("L", "upper"): ["du lobe supérieur gauche", "au sommet gauche"],
        ("R", "upper"): ["du lobe supérieur droit", "à l'apex droit"],
        ("L", "middle"): ["au tiers moyen du poumon gauche", "en région hilaire gauche"],
        ("R", "middle"): ["au tiers moyen du poumon droit", "en région périhilaire droite"],
        ("L", "lower"): ["à la base gauche", "du lobe inférieur gauche"],
        ("R", "lower"): ["de la base droite", "du lobe inférieur droit"],
        ("B", "lower"): ["des deux bases", "aux deux bases pulmonaires"],
    },
    present=[
        "On note {name} {where}.",
        "{name} {where}.",
        "Présence d'{name} {where}.",
        "Il existe {name} {where}.",
        "Le cliché montre {name} {where}.",
    ],
    uncertain=[
        "On ne peut exclure {name} {where}.",
        "Possible {name} {where}.",
        "Aspect faisant suspecter {name} {where}.",
        "{name} {where} à confirmer.",
    ],
    absent=["Pas {of}.", "Absence {of}.", "Pas d'argument pour {name}.", "On ne voit pas {of}."],
    several_absent="Ni {first}, ni {last}.",
    normal=["Radiographie du thorax sans anomalie.", "Cliché normal.", "Pas d'anomalie décelable."],
    questions=["Fièvre et toux, {name} ?", "Éliminer {name}.", "Dyspnée, recherche d'{name}."],
    earlier=["Par rapport au cliché antérieur : ", "Comme sur l'examen précédent, ", "Contrôle. "],
    remarks=["Bases non incluses dans le champ.", "Cliché pris en expiration.", "Patient en rotation."],
    headings=("Renseignements cliniques :", "Résultat :"),
)

WORDINGS: Mapping[Language, Wording] = {"en": ENGLISH, "fr": FRENCH}
