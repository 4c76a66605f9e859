"""What ``--cluster`` means: which engine runs the jobs, and what each job asks for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings, UserError, load_config, parse_overrides

Engine = Literal["slurm", "local"]

_QUEUED = 32
"""Jobs that wait or run in a queue of SLURM at the same time."""

_ON_ONE_MACHINE = {"engine", "time_h", "gpus", "num_parallel", "max_restarts"}


class ClusterSettings(Settings):
    """What each job asks for. SLURM decides what a key that is not given means, unless its text says otherwise."""

    engine: Engine
    """slurm: the queue of a cluster, from a login node. local: processes of this machine, started by the same engine,
    to try a command before it goes to a queue."""
    time_h: PositiveFloat | None = None
    """Time limit. A job that reaches it is queued again and resumes. Needed for slurm; local: 24."""
    gpus: NonNegativeInt | None = None
    """Needed for slurm; local: 0, and all jobs see the same first GPUs."""
    num_parallel: PositiveInt | None = None
    """Jobs that wait in the queue or run at the same time. null: 32 for slurm, else what the command's settings say."""
    max_restarts: NonNegativeInt = 20
    """How often a job that reached its time limit is queued again."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus: PositiveInt | None = None
    memory_gb: PositiveInt | None = None
    setup: list[str] = []
    """Shell lines before the command, such as ``module load cuda``."""
    sbatch: dict[str, str | int] = Field({})
    """Further options of sbatch by their long names, such as ``{reservation: chest}``."""

    @property
    def time_min(self) -> float:
        """Time limit in minutes; whole minutes for SLURM."""
        minutes = 60 * (self.time_h or 24.0)
        return minutes if self.engine == "local" else math.ceil(minutes)

    def num_at_a_time(self, num_parallel: int) -> int:
        """How many jobs to have in the queue, where the settings of a command say `num_parallel`."""
        return self.num_parallel or (_QUEUED if self.engine == "slurm" else num_parallel)

    @model_validator(mode="after")
    def _engine_can(self) -> "ClusterSettings":
        given: dict[str, Any] = self.model_dump(exclude_defaults=True)
        missing = [name for name in ("time_h", "gpus") if name not in given]
        if self.engine == "slurm" and missing:
            raise ValueError(f"slurm needs {' and '.join(missing)} of each job, for instance time_h=12 gpus=1")
        if self.engine == "local" and (other := given.keys() - _ON_ONE_MACHINE):
            raise ValueError(f"{', '.join(sorted(other))}: only for slurm; remove it")
        return self


def load_cluster(where: str | None, changes: Sequence[str] = ()) -> ClusterSettings | None:
    """Settings from the command line.

    Args:
        where: slurm, local, or a settings file; None without ``--cluster``, and then the result is None. changes:
            ``key=value``.

    Raises:
        UserError: no such engine or file, or settings that do not validate.
    """
    if where is None:
        if changes:
            raise UserError("--cluster-set: needs --cluster; give --cluster slurm, local or a settings file")
        return None
    try:
        if where in get_args(Engine):
            return parse_overrides(ClusterSettings, [f"engine={where}", *changes])
        if not Path(where).is_file():
            raise UserError(f"--cluster {where}: expected slurm, local or a settings file; no such file")
        return load_config(ClusterSettings, Path(where), changes)
    except UserError as error:
        raise UserError([problem.replace("--set", "--cluster-set") for problem in error.problems]) from None
