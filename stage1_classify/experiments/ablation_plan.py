"""Which runs an ablation needs, in which order: shared ones once, teachers and members first."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError, load_config
from cxr.labels import nearest
from cxr.runs.jobs import Job, override
from stage1_classify.experiments.commands import ensemble_command, training_command
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import AblationSettings, EnsembleVariant

PLACEHOLDER = re.compile(r"\{run:(.+)\}")
ALL_SEEDS = "all seeds of "
ENSEMBLE_CONFIG = "ensemble.yaml"

Place = tuple[str, str]
"""Group and variant."""


@dataclass(frozen=True)
class Plan:
    """jobs: in an order in which each comes after those that it needs. runs: of each variant its run folders by seed;
    under None where one run stands for all seeds. base: settings without any variant's changes."""

    jobs: tuple[Job, ...]
    runs: Mapping[Place, Mapping[int | None, Path]]
    base: Stage1Settings


def make_plan(settings: AblationSettings, out: Path) -> Plan:
    """The runs of `settings`, in folders below ``out/runs``.

    Raises:
        UserError: changes that are no settings of stage 1, names of variants that do not exist, variants that need each
            other, or groups whose variants have other findings; all problems at once.
    """
    planner = _Planner(settings, out)
    base = planner.load("overrides", settings.overrides)
    runs: dict[Place, dict[int | None, Path]] = {}
    for group, content in settings.groups.items():
        for variant in content.variants:
            place = (group, variant)
            runs[place] = {seed: planner.run(place, seed) for seed in planner.seeds_of(place)}
    planner.check_findings()
    if planner.problems or base is None:
        raise UserError(list(dict.fromkeys(planner.problems)))
    return Plan(tuple(planner.jobs), runs, base)


class _Planner:
    def __init__(self, settings: AblationSettings, out: Path) -> None:
        self.problems: list[str] = []
        self.jobs: list[Job] = []
        self._settings, self._out = settings, out
        self._planned: dict[tuple[Place, int | None], Path] = {}
        self._open: list[Place] = []
        self._same: dict[str, Path] = {}
        self._findings: dict[Place, list[str]] = {}

    def _variant(self, place: Place) -> dict[str, Any] | EnsembleVariant:
        return self._settings.groups[place[0]].variants[place[1]]

    def seeds_of(self, place: Place) -> list[int | None]:
        variant = self._variant(place)
        if isinstance(variant, EnsembleVariant) and all(m.startswith(ALL_SEEDS) for m in variant.ensemble):
            return [None]
        return list(self._settings.seeds)

    def run(self, place: Place, seed: int | None) -> Path:
        """The variant's run folder; adds the jobs that make it where they are not planned yet."""
        if seed not in (seeds := self.seeds_of(place)):
            seed = seeds[0]
        if (place, seed) in self._planned:
            return self._planned[place, seed]
        folder = self._out / "runs" / "/".join(place) / ("all_seeds" if seed is None else f"seed{seed}")
        if place in self._open:
            self.problems.append(f"{_name(place)}: needs itself, through {', '.join(map(_name, self._open))}")
            return folder
        self._open.append(place)
        variant = self._variant(place)
        if isinstance(variant, EnsembleVariant):
            folder = self._ensemble(place, seed, variant=variant, folder=folder)
        else:
            folder = self._training(place, seed, changes=variant, folder=folder)
        self._open.pop()
        self._planned[place, seed] = folder
        return folder

    def _training(self, place: Place, seed: int | None, *, changes: Mapping[str, Any], folder: Path) -> Path:
        values = self._settings.overrides | dict(changes)
        needs = []
        if "seed" in values and len(self._settings.seeds) > 1:
            self.problems.append(
                f"{_name(place)}: seed is given beside several `seeds`; list it there instead"
            )
        for key, value in values.items():
            if isinstance(value, str) and (named := PLACEHOLDER.fullmatch(value)):
                for other in self._named(place, named[1], [seed]):
                    values[key] = str(other)
                    needs.append(other)
        values.setdefault("seed", seed)
        read = self.load(_name(place), values)
        if read is None:
            return folder
        self._findings[place] = read.findings
        job = Job(
            f"{_name(place)} seed {seed}", folder, training_command(self._settings.base, values), tuple(needs)
        )
        return self._add(job, json.dumps(read.model_dump(mode="json"), sort_keys=True))

    def _ensemble(self, place: Place, seed: int | None, *, variant: EnsembleVariant, folder: Path) -> Path:
        members: list[Path] = []
        for named in variant.ensemble:
            every = named.startswith(ALL_SEEDS)
            members += self._named(
                place, named.removeprefix(ALL_SEEDS), self._settings.seeds if every else [seed]
            )
        if len(set(members)) < len(members):
            self.problems.append(f"{_name(place)}: two of its members are the same run; list each once")
        if len(members) == 1 and variant.flips == ["none"]:
            self.problems.append(f"{_name(place)}: one member and flips [none] leave nothing to combine")
        changes = {"combine": variant.combine, "flips": list(variant.flips)}
        command = ensemble_command(self._out / ENSEMBLE_CONFIG, members, changes)
        shown = "all seeds" if seed is None else f"seed {seed}"
        job = Job(f"{_name(place)} {shown}", folder, command, tuple(members))
        return self._add(job, json.dumps([sorted(map(str, members)), changes]))

    def _named(self, place: Place, name: str, seeds: list[int | None] | list[int]) -> list[Path]:
        """Run folders of the variant that `place` calls `name`: of its own group, or GROUP/VARIANT."""
        group, _, variant = name.rpartition("/")
        other = (group or place[0], variant)
        known = [(g, v) for g, content in self._settings.groups.items() for v in content.variants]
        if other not in known:
            hint = nearest(_name(other), [_name(one) for one in known])
            self.problems.append(f"{_name(place)}: no variant {name!r}{hint}")
            return []
        if all(isinstance(self._variant(one), EnsembleVariant) for one in (place, other)):
            self.problems.append(f"{_name(place)}: {name!r} is an ensemble itself; list its members instead")
            return []
        return [self.run(other, seed) for seed in seeds]

    def _add(self, job: Job, identity: str) -> Path:
        """Plan `job`, unless one with the same settings is planned already; returns its folder."""
        if identity not in self._same:
            self._same[identity] = job.out
            self.jobs.append(job)
        return self._same[identity]

    def load(self, source: str, changes: Mapping[str, Any]) -> Stage1Settings | None:
        """Settings of one training; None, and problems noted, where they are none."""
        try:
            return load_config(
                Stage1Settings, self._settings.base, [override(*item) for item in changes.items()]
            )
        except UserError as error:
            self.problems += [f"{source}: {problem}" for problem in error.problems]
            return None

    def check_findings(self) -> None:
        """Note a problem where the variants of a group do not have the same findings."""
        for group in self._settings.groups:
            own = {place[1]: found for place, found in self._findings.items() if place[0] == group}
            for variant, found in own.items():
                first = next(iter(own))
                if found != own[first]:
                    self.problems.append(
                        f"{group}/{variant}: findings differ from those of {first}; "
                        "variants of a group must have the same ones to be compared"
                    )


def _name(place: Place) -> str:
    return "/".join(place)
