"""Every settings file loads, and says what it is for. The files in configs/serving are in test_deployment.py."""

from pathlib import Path

import pytest

from cxr.config import Settings, load_config
from cxr.labels import load_terminology
from cxr.labels.terminology import LabelFile
from cxr.runs.cluster_settings import ClusterSettings
from eval.classification.label_forest import LabelForestSettings
from stage1_classify.experiments.ablation_plan import make_plan
from stage1_classify.experiments.sweep_space import check_space
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings
from stage1_classify.settings.experiments import AblationSettings, SweepSettings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings
from stage3_detect.experiments.experiment import make_plan as make_detector_plan
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.experiments import DetectorExperimentSettings
from tests.paths import ROOT

CONFIGS = ROOT / "configs"
SETTINGS: dict[str, type[Settings]] = {
    "stage1": Stage1Settings,
    "stage2": Stage2Settings,
    "stage3": Stage3Settings,
    "ensemble": EnsembleSettings,
    "ablation": AblationSettings,
    "sweep": SweepSettings,
    "labels": LabelFile,
    "slurm": ClusterSettings,
    "study": DetectorExperimentSettings,  # study_<what>.yaml
    "label": LabelForestSettings,
    **dict.fromkeys(("source", "finetuned", "baseline", "hierarchical", "weighted"), Stage1Settings),
}


FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent != CONFIGS / "serving")


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_settings_file_loads_and_has_a_header(path: Path) -> None:
    settings = load_config(SETTINGS[path.stem.split("_")[0]], path)
    if isinstance(settings, LabelFile):
        load_terminology(path)
    if isinstance(settings, AblationSettings):
        make_plan(settings, Path("runs/test"))  # also every variant is a setting of stage 1
    if isinstance(settings, DetectorExperimentSettings):
        make_detector_plan(settings, Path("runs/test"), stage2=Path("runs/stage2"))  # and of stage 3
    if isinstance(settings, SweepSettings):
        check_space(settings)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert header.startswith("#")
    assert "Command: python " in header


def test_the_demo_has_all_three_stages() -> None:
    assert {path.stem for path in (CONFIGS / "demo").iterdir()} >= {"stage1", "stage2", "stage3"}
