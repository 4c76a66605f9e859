"""Runs of an experiment of stage 3: every variant with every seed on one stage 2 run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.runs.jobs import run_command
from eval.experiments.plan import Plan, Planner, Training
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.settings.experiments import DetectorExperimentSettings

TRAINING = Path(__file__).parents[1] / "run.py"


def make_plan(settings: DetectorExperimentSettings, out: Path, *, stage2: Path) -> Plan:
    """The runs of `settings`, in folders ``out/runs/<variant>_s<seed>``.

    Raises:
        UserError: changes that are no settings of stage 3; all problems at once.
    """

    def command(values: Mapping[str, Any]) -> tuple[str, ...]:
        return run_command(TRAINING, settings.base, values, sources=[stage2])

    training = Training(DetectSettings, command, "{variant}_s{seed}")
    return Planner(settings, {"": settings.variants}, training=training, out=out).plan()
