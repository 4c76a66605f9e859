"""Runs of an ablation: trainings of stage 1, and ensembles of them."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cxr.runs.job_start import Job
from cxr.runs.jobs import run_command
from eval.experiments.plan import Place, Plan, Planner, Training, name_of
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import AblationSettings, EnsembleVariant

ALL_SEEDS = "all seeds of "
ENSEMBLE_CONFIG = "ensemble.yaml"
TRAINING, ENSEMBLE = (Path(__file__).parents[1] / name for name in ("run.py", "ensemble.py"))


def make_plan(settings: AblationSettings, out: Path) -> Plan:
    """The runs of `settings`, in folders below ``out/runs``.

    Raises:
        UserError: changes that are no settings of stage 1, unknown variants, variants that need each other, or groups
            whose variants have different findings; all problems at once.
    """
    return _AblationPlanner(settings, out).plan()


class _AblationPlanner(Planner):
    def __init__(self, settings: AblationSettings, out: Path) -> None:
        command = partial(run_command, TRAINING, settings.base)
        training = Training(Stage1Settings, command, "{group}/{variant}/seed{seed}")
        variants = {group: content.variants for group, content in settings.groups.items()}
        super().__init__(settings, variants, training=training, out=out)

    def folder(self, place: Place, seed: int | None) -> Path:
        if seed is None:
            return self.out / "runs" / "/".join(place) / "all_seeds"
        return super().folder(place, seed)

    def seeds_of(self, place: Place) -> Sequence[int | None]:
        variant = self.variants[place]
        if isinstance(variant, EnsembleVariant) and all(m.startswith(ALL_SEEDS) for m in variant.ensemble):
            return [None]
        return super().seeds_of(place)

    def job(self, place: Place, seed: int | None) -> tuple[Job, str] | None:
        variant = self.variants[place]
        if not isinstance(variant, EnsembleVariant):
            return super().job(place, seed)
        members = [folder for named in variant.ensemble for folder in self._members(place, named, seed)]
        if len(set(members)) < len(members):
            self.problems.append(f"{name_of(place)}: two of its members are the same run; list each once")
        if len(members) == 1 and variant.flips == ["none"]:
            self.problems.append(f"{name_of(place)}: one member and flips [none] leave nothing to combine")
        changes = {"combine": variant.combine, "flips": list(variant.flips)}
        command = run_command(ENSEMBLE, self.out / ENSEMBLE_CONFIG, changes, sources=members)
        shown = "all seeds" if seed is None else f"seed {seed}"
        job = Job(f"{name_of(place)} {shown}", self.folder(place, seed), command, tuple(members))
        return job, json.dumps([sorted(map(str, members)), changes])

    def _members(self, place: Place, named: str, seed: int | None) -> list[Path]:
        name = named.removeprefix(ALL_SEEDS)
        found = self.find(place, name)
        if found is not None and isinstance(self.variants[found], EnsembleVariant):
            self.problems.append(f"{name_of(place)}: {name!r} is itself an ensemble; list its members instead")
            return []
        seeds = self.settings.seeds if named.startswith(ALL_SEEDS) else [seed]
        return [] if found is None else [self.run(found, one) for one in seeds]

    def check(self) -> None:
        """Note a problem where the base settings are invalid, or variants of a group have different findings."""
        self.load("overrides", self.settings.overrides)
        first: dict[str, str] = {}
        findings = {place: one.findings for place, one in self.loaded.items() if isinstance(one, Stage1Settings)}
        for place, own in findings.items():
            group, variant = place
            reference = first.setdefault(group, variant)
            if own != findings[group, reference]:
                self.problems.append(
                    f"{name_of(place)}: findings differ from those of {reference}; variants of a group can only be "
                    "compared on the same findings"
                )
