"""Which trainings a study needs: every variant with every seed, equal ones once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError, load_config
from cxr.runs.jobs import Job, override, run_command
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.settings.experiments import StudySettings

TRAINING = Path(__file__).parents[1] / "run.py"


@dataclass(frozen=True)
class Plan:
    """jobs: one a run folder. runs: run folders of each variant by seed; variants with equal settings share them."""

    jobs: tuple[Job, ...]
    runs: Mapping[str, Mapping[int, Path]]


def make_plan(settings: StudySettings, out: Path, *, stage2: Path) -> Plan:
    """The runs of `settings` on one stage 2 run, in folders ``out/runs/<variant>_s<seed>``.

    Raises:
        UserError: changes that are no settings of stage 3; all problems at once.
    """
    jobs: dict[str, Job] = {}
    runs: dict[str, dict[int, Path]] = {}
    problems: list[str] = []
    for variant, changes in settings.variants.items():
        values = settings.overrides | changes
        if "seed" in values:
            problems.append(f"{variant}: seed is among its changes; give it under `seeds` instead")
            continue
        for seed in settings.seeds:
            try:
                identity = _identity(settings.base, values | {"seed": seed})
            except UserError as error:
                problems += [f"{variant}: {problem}" for problem in error.problems]
                break
            folder = out / "runs" / f"{variant}_s{seed}"
            command = run_command(TRAINING, settings.base, values | {"seed": seed}, sources=[stage2])
            job = jobs.setdefault(identity, Job(f"{variant} seed {seed}", folder, command))
            runs.setdefault(variant, {})[seed] = job.out
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return Plan(tuple(jobs.values()), runs)


def _identity(base: Path, values: Mapping[str, Any]) -> str:
    """Equal for equal settings, however they are written."""
    read = load_config(DetectSettings, base, [override(*item) for item in values.items()])
    return json.dumps(read.model_dump(mode="json"), sort_keys=True)
