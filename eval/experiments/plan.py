"""Which runs an experiment needs: every variant with every seed, equal settings once, dependencies first.

A stage says how it is trained (`Training`). The value ``"{run:VARIANT}"`` of a setting stands for the run folder of
another variant with the same seed, which is trained first.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import Settings, UserError, load_config
from cxr.labels import nearest
from cxr.runs.job_start import Job
from cxr.runs.jobs import override
from eval.experiments.settings import ExperimentSettings

PLACEHOLDER = re.compile(r"\{run:(.+)\}")

Place = tuple[str, str]
"""Group and variant. The group is "" where an experiment has only one."""

Runs = Mapping[int | None, Path]
"""Run folders of one variant by seed. The key None stands for all seeds."""


@dataclass(frozen=True)
class Plan:
    """jobs: each after those that it needs. runs: variants with equal settings share their run folders."""

    jobs: tuple[Job, ...]
    runs: Mapping[Place, Runs]


@dataclass(frozen=True)
class Training:
    """How a stage is trained.

    settings: what its settings file holds. command: changed settings (dotted key -> value) -> command line.
    folder: of one training, with the fields group, variant and seed, for instance "{variant}_s{seed}".
    """

    settings: type[Settings]
    command: Callable[[Mapping[str, Any]], tuple[str, ...]]
    folder: str


class Planner:
    """Collects jobs and problems. A subclass may plan variants that are not trainings.

    Args:
        variants: group -> variant -> changes of the base settings, dotted key -> value.
    """

    def __init__(
        self, settings: ExperimentSettings, variants: Mapping[str, Mapping[str, Any]], *, training: Training, out: Path
    ) -> None:
        self.problems: list[str] = []
        self.loaded: dict[Place, Settings] = {}
        self.settings, self.out = settings, out
        self._training = training
        self.variants = {(group, name): own for group, named in variants.items() for name, own in named.items()}
        self._jobs: list[Job] = []
        self._planned: dict[tuple[Place, int | None], Path] = {}
        self._open: list[Place] = []
        self._folder_of: dict[str, Path] = {}

    def plan(self) -> Plan:
        """Plan all runs; one UserError for invalid settings, unknown variants and variants that need each other."""
        runs = {place: {seed: self.run(place, seed) for seed in self.seeds_of(place)} for place in self.variants}
        self.check()
        if self.problems:
            raise UserError(list(dict.fromkeys(self.problems)))
        return Plan(tuple(self._jobs), runs)

    def check(self) -> None:
        """Note further problems once all variants are planned."""

    def seeds_of(self, place: Place) -> Sequence[int | None]:  # noqa: ARG002, subclasses use it
        """The seeds that a variant is trained with."""
        return self.settings.seeds

    def job(self, place: Place, seed: int | None) -> tuple[Job, str] | None:
        """The job of one run, and a text that is equal for runs with equal settings; None where it has a problem."""
        values = self.settings.overrides | dict(self.variants[place])
        if "seed" in values and len(self.settings.seeds) > 1:
            self.problems.append(f"{name_of(place)}: seed is among its changes; give it under `seeds` instead")
        needs = []
        for key, value in values.items():
            if isinstance(value, str) and (found := PLACEHOLDER.fullmatch(value)):
                for folder in self.runs_of(place, found[1], [seed]):
                    values[key] = str(folder)
                    needs.append(folder)
        values.setdefault("seed", seed)
        loaded = self.load(name_of(place), values)
        if loaded is None:
            return None
        self.loaded[place] = loaded
        command = self._training.command(values)
        job = Job(f"{name_of(place)} seed {seed}", self.folder(place, seed), command, tuple(needs))
        return job, json.dumps(loaded.model_dump(mode="json"), sort_keys=True)

    def run(self, place: Place, seed: int | None) -> Path:
        """Run folder of a variant; its job is added if it is not planned yet."""
        seeds = self.seeds_of(place)
        seed = seed if seed in seeds else seeds[0]
        if (place, seed) in self._planned:
            return self._planned[place, seed]
        if place in self._open:
            chain = ", ".join(map(name_of, self._open))
            self.problems.append(f"{name_of(place)}: needs itself, through {chain}")
            return self.folder(place, seed)
        self._open.append(place)
        planned = self.job(place, seed)
        self._open.pop()
        folder = self.folder(place, seed)
        if planned is not None:
            job, identity = planned
            if identity not in self._folder_of:
                self._folder_of[identity] = job.out
                self._jobs.append(job)
            folder = self._folder_of[identity]
        self._planned[place, seed] = folder
        return folder

    def folder(self, place: Place, seed: int | None) -> Path:
        """Run folder of one training, where no other run has the same settings."""
        return self.out / "runs" / self._training.folder.format(group=place[0], variant=place[1], seed=seed)

    def find(self, place: Place, name: str) -> Place | None:
        """The variant that `place` calls `name`: VARIANT of its own group, or GROUP/VARIANT; None if there is none."""
        group, _, variant = name.rpartition("/")
        found = (group or place[0], variant)
        if found not in self.variants:
            hint = nearest(name_of(found), [name_of(one) for one in self.variants])
            self.problems.append(f"{name_of(place)}: no variant {name!r}{hint}")
            return None
        return found

    def runs_of(self, place: Place, name: str, seeds: Sequence[int | None]) -> list[Path]:
        """Run folders of the variant that `place` calls `name`; none where it does not exist."""
        found = self.find(place, name)
        return [] if found is None else [self.run(found, seed) for seed in seeds]

    def load(self, source: str, changes: Mapping[str, Any]) -> Settings | None:
        """Settings of one training; None where they are invalid, which is noted under the name `source`."""
        given = [override(*item) for item in changes.items()]
        try:
            return load_config(self._training.settings, self.settings.base, given)
        except UserError as error:
            self.problems += [f"{source}: {problem}" for problem in error.problems]
            return None


def name_of(place: Place) -> str:
    """GROUP/VARIANT, or the variant alone in an experiment without groups."""
    return "/".join(part for part in place if part)
