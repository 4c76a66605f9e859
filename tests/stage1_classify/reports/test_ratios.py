"""Numbers of the cardiothoracic ratio, by hand."""

import pytest

from cxr.labels import Language
from stage1_classify.reports.labeller import ReportLabeller


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("fr", "ICT à 0,58", 1),
        ("fr", "ICT: 58 %", 1),
        ("fr", "ICT > 0,5.", 1),
        ("fr", "ICT supérieur à 0,5", 1),
        ("fr", "Index cardio-thoracique 0.58", 1),
        ("fr", "Rapport cardiothoracique estimé à 55%.", 1),
        ("fr", "Cardiomégalie avec ICT mesuré à 0,62.", 1),
        ("fr", "ICT à 0,50", -1),
        ("fr", "ICT à 0,45", 0),
        ("fr", "ICT inférieur à 0,5", 0),
        ("fr", "ICT n'est pas supérieur à 0,5", 0),
        ("fr", "Pas de cardiomégalie (ICT à 0,48)", 0),
        ("en", "Cardiothoracic ratio 0.58", 1),
        ("en", "The cardiothoracic ratio is 58%.", 1),
        ("en", "CTR of .61", 1),
        ("en", "CTR 0.50", -1),
        ("en", "CTR less than 0.5", 0),
        ("en", "Cardio-thoracic index 0.45", 0),
        ("en", "CTR>0.5", 1),
        ("en", "CTR exceeded 0.5", 1),
        ("en", "Cardiothoracic ratio overall 0.45", 0),
        ("en", "CTR on an over-exposed image 0.45", 0),
        ("en", "CTR misunderstood 0.58", 1),
        ("fr", "ICT mesurée supérieure à 0,5", 1),
        ("fr", "ICT au dessus de 0,5", 1),
        ("fr", "ICT en-dessous de 0,5", 0),
        ("en", "CTR less than 0.6", None),
        ("en", "CTR on 12.05", None),
        ("fr", "ICT, épanchement de 30 %", None),
        ("fr", "ICT non mesurable", None),
    ],
)
def test_the_heart_is_enlarged_above_one_half(
    label: ReportLabeller, language: Language, text: str, expected: int | None
) -> None:
    assert label(text, language).labels().get("Cardiomegaly") == expected


def test_what_follows_a_ratio_is_read(label: ReportLabeller) -> None:
    assert label("ICT = 0.58. Pas d'épanchement.", "fr").labels() == {"Cardiomegaly": 1, "Pleural Effusion": 0}
    assert label("ICT à 0,58, épanchement gauche", "fr").labels() == {"Cardiomegaly": 1, "Pleural Effusion": 1}
