"""Labels of phrases that are frequent in French and English reports, by hand."""

import pytest

from cxr.labels import Language
from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.places import Place

Labels = dict[str, int]

AIR_OUTSIDE = [
    ("fr", "Emphysème sous-cutané gauche"),
    ("fr", "Emphysème pariétal droit"),
    ("fr", "Emphysème droit sous-cutané"),
    ("fr", "Emphysème médiastinal"),
    ("fr", "Pneumomédiastin"),
    ("fr", "Emphysème sous-cutané et médiastinal"),
    ("fr", "Emphysème des parties molles"),
    ("en", "Left subcutaneous emphysema"),
    ("en", "Surgical emphysema on the right"),
    ("en", "Emphysema of the left chest wall"),
    ("en", "Mediastinal emphysema"),
    ("en", "Pneumomediastinum"),
    ("en", "Subcutaneous and mediastinal emphysema"),
]


@pytest.mark.parametrize(("language", "text"), AIR_OUTSIDE)
def test_air_outside_the_lungs_is_no_emphysema(label: ReportLabeller, language: Language, text: str) -> None:
    found = label(f"{text}. {'Pas de pneumothorax' if language == 'fr' else 'No pneumothorax'}.", language)
    assert "Emphysema" not in found.labels()
    assert "No Finding" not in found.labels()
    assert found.labels()["Pneumothorax"] == 0


def test_the_side_of_air_outside_the_lungs_stays_with_it(label: ReportLabeller) -> None:
    found = label("Right subcutaneous emphysema, left pneumothorax. Bullous emphysema.", "en")
    assert found.places()["Pneumothorax"] == [Place("L", "")]
    assert found.labels()["Emphysema"] == 1


EXPLAINED = [
    ("en", "Opacity at the right base likely representing pneumonia", "Lung Opacity", "Pneumonia"),
    ("en", "Left retrocardiac opacity likely reflects atelectasis", "Lung Opacity", "Atelectasis"),
    ("en", "Left basilar opacity is likely atelectasis", "Lung Opacity", "Atelectasis"),
    ("en", "Opacity most likely due to pneumonia", "Lung Opacity", "Pneumonia"),
    ("en", "Consolidation possibly secondary to pneumonia", "Consolidation", "Pneumonia"),
    ("en", "Opacity may be due to atelectasis", "Lung Opacity", "Atelectasis"),
    ("en", "Right basal opacity probably representing pneumonia", "Lung Opacity", "Pneumonia"),
    ("en", "Right basal opacity suggestive of pneumonia", "Lung Opacity", "Pneumonia"),
    ("en", "Right basal opacity may reflect pneumonia", "Lung Opacity", "Pneumonia"),
    ("fr", "Opacité basale droite compatible avec une pneumopathie", "Lung Opacity", "Pneumonia"),
    ("fr", "Opacité basale droite évoquant une pneumopathie", "Lung Opacity", "Pneumonia"),
    ("fr", "Opacité probablement en rapport avec une atélectasie", "Lung Opacity", "Atelectasis"),
    ("fr", "Opacité vraisemblablement secondaire à une pneumopathie", "Lung Opacity", "Pneumonia"),
    ("fr", "Opacité sans doute liée à une atélectasie", "Lung Opacity", "Atelectasis"),
]


@pytest.mark.parametrize(("language", "text", "finding", "cause"), EXPLAINED)
def test_a_likely_cause_leaves_the_finding_certain(
    label: ReportLabeller, language: Language, text: str, finding: str, cause: str
) -> None:
    assert label(text, language).labels() == {finding: 1, cause: -1}


SINGLE: list[tuple[str, str, Labels]] = [
    ("en", "Small effusion is likely on the left", {"Pleural Effusion": -1}),
    ("en", "Atelectasis versus consolidation", {"Atelectasis": -1, "Consolidation": -1}),
    ("fr", "Foyer probable de pneumopathie", {"Consolidation": -1, "Pneumonia": -1}),
    ("fr", "Nodule du lobe supérieur gauche à contrôler par scanner", {"Lung Lesion": 1, "Nodule": 1}),
    ("fr", "Nodules à surveiller", {"Lung Lesion": 1, "Nodule": 1}),
    ("fr", "Nodule à confirmer par scanner", {"Lung Lesion": -1, "Nodule": -1}),
    ("fr", "Nodule à contrôler et épanchement gauche", {"Lung Lesion": 1, "Nodule": 1, "Pleural Effusion": 1}),
    ("en", "Nodule, recommend CT follow-up", {"Lung Lesion": 1, "Nodule": 1}),
    ("fr", "Fracture ancienne de l'arc postérieur de la 6e côte", {"Fracture": 1, "Rib Fracture": 1}),
    ("fr", "Fracture ancienne de côte droite", {"Fracture": 1, "Rib Fracture": 1}),
    ("fr", "Fractures costales anciennes", {"Fracture": 1, "Rib Fracture": 1}),
    ("fr", "Anciennes fractures costales", {"Fracture": 1, "Rib Fracture": 1}),
    ("fr", "Fracture ancienne de la clavicule gauche", {"Fracture": 1, "Clavicle Fracture": 1}),
    ("fr", "Fracture ancienne et épanchement pleural", {"Fracture": 1, "Pleural Effusion": 1}),
    ("en", "Old healed rib fractures", {"Fracture": 1, "Rib Fracture": 1}),
    ("fr", "Séquelles anciennes de tuberculose", {"Tuberculosis": 1}),
    ("fr", "Ancien pneumothorax", {}),
    ("fr", "Pleuropneumopathie droite", {"Pneumonia": 1}),
    ("fr", "Pleuro-pneumonie gauche", {"Pneumonia": 1}),
    ("fr", "Broncho-pneumopathie", {"Pneumonia": 1}),
    ("en", "Pleuropneumonia", {"Pneumonia": 1}),
]


@pytest.mark.parametrize(("language", "text", "labels"), SINGLE)
def test_labels_of_a_phrase(label: ReportLabeller, language: Language, text: str, labels: Labels) -> None:
    assert label(text, language).labels() == labels


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("fr", "Redistribution vasculaire vers les sommets"),
        ("fr", "Redistribution apicale"),
        ("fr", "Vascularisation pulmonaire redistribuée vers les sommets"),
        ("en", "Cephalization to the upper lobes"),
        ("en", "Cephalisation of the pulmonary vessels"),
        ("en", "Vascular redistribution to the apices"),
        ("en", "Upper lobe venous diversion"),
    ],
)
def test_redistribution_has_no_zone(label: ReportLabeller, language: Language, text: str) -> None:
    found = label(text, language)
    assert found.labels() == {"Edema": 1}
    assert found.places() == {}


@pytest.mark.parametrize("text", ["RAS", "RAS.", "R.A.S.", "Normal.", "Sans particularité.", "Rien à signaler."])
def test_short_normal_reports_in_french(label: ReportLabeller, text: str) -> None:
    assert label(text, "fr").labels() == {"No Finding": 1}
    assert label(f"Indication : toux.\nConclusion : {text}", "fr").labels() == {"No Finding": 1}
    assert label(f"Radiographie de face. {text}", "fr").labels() == {"No Finding": 1}


@pytest.mark.parametrize("text", ["Unremarkable.", "Normal chest.", "No acute findings.", "Normal", "NAD"])
def test_short_normal_reports_in_english(label: ReportLabeller, text: str) -> None:
    assert label(text, "en").labels() == {"No Finding": 1}
    assert label(f"The trachea is seen.\nIMPRESSION\n{text}", "en").labels() == {"No Finding": 1}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Cœur : RAS", {}),
        ("Trachée visible. RAS.", {}),
        ("Indication : bilan normal", {}),
        ("RAS. Épanchement gauche.", {"Pleural Effusion": 1}),
    ],
)
def test_a_normal_part_is_no_normal_report(label: ReportLabeller, text: str, labels: Labels) -> None:
    assert label(text, "fr").labels() == labels


def test_texts_that_show_no_language_are_read_in_the_usual_one(label: ReportLabeller) -> None:
    assert label("RAS").language == "fr"
    assert label("Normal.").language is None
    assert label("Normal.", usual="fr").labels() == {"No Finding": 1}
    assert label("Pneumothorax", usual="fr").language == "fr"
    assert label("Derrame xyzzy", usual="fr").language is None
    assert label("", usual="fr").language is None


PNEUMOTHORAX, EFFUSION = "Pneumothorax", "Pleural Effusion"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("PNO droit complet. Pas d'épanchement pleural.", {PNEUMOTHORAX: 1, EFFUSION: 0}),
        ("Pas de PNO.", {PNEUMOTHORAX: 0, "No Finding": 1}),
        ("PNP du LID. Pas d'épanchement.", {"Pneumonia": 1, EFFUSION: 0}),
        ("EPL droit minime. Pas de PNO.", {EFFUSION: 1, PNEUMOTHORAX: 0}),
        ("Volumineux épanchement pleural gazeux gauche.", {PNEUMOTHORAX: 1}),
        ("Pas d'épanchement pleural liquidien ni gazeux.", {PNEUMOTHORAX: 0, EFFUSION: 0, "No Finding": 1}),
        ("Pas d'épanchement gazeux ou liquidien.", {PNEUMOTHORAX: 0, EFFUSION: 0, "No Finding": 1}),
    ],
)
def test_french_abbreviations_and_pleural_air(label: ReportLabeller, text: str, labels: Labels) -> None:
    assert label(text, "fr").labels() == labels
