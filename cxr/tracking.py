"""The only module that imports Weights & Biases. It is off by default; ``metrics.jsonl`` always gets the figures."""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, RootModel

from cxr.config import UserError
from cxr.own_json import check_shape

TrackingMode = Literal["off", "offline", "online"]
"""off: wandb is not even imported. offline: its files are written into the run folder, for a later `wandb sync`.
online: they are sent to its server as well."""

PROJECT = "raybox"

_OFF_INSTEAD = "run `wandb login` and check the network"


class _Figures(RootModel[dict[str, float | None]]):
    model_config = ConfigDict(strict=True)


_ADVICE = "restore the line, or remove it"


class Tracker:
    """Writes one JSON line per step, and sends the same figures to wandb if the mode says so.

    A run that resumes after an interruption continues the same wandb run, whose id is kept in ``wandb/id.txt`` in the
    run folder. wandb is given the run's settings as its config, no code and nothing of the terminal.

    Raises:
        UserError: mode "online" without an account or a network.
    """

    def __init__(self, run_dir: Path, mode: TrackingMode = "off", *, project: str = PROJECT, name: str = "") -> None:
        self._path = run_dir / "metrics.jsonl"
        _end_torn_line(self._path)
        self._wandb_run: Any = None
        if mode != "off":
            self._wandb_run = _start_wandb_run(run_dir, mode, project=project, name=name)

    def log(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Append ``{"step": step, **figures}``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        if self._wandb_run is not None:
            self._wandb_run.log({k: v for k, v in figures.items() if v is not None}, step=step)

    def finish(self) -> None:
        """Close the wandb run, if there is one."""
        if self._wandb_run is not None:
            self._wandb_run.finish()


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """The logged lines in order, without incomplete lines; of a step logged twice the later line counts.

    Raises:
        UserError: a line has no step, or a figure that is no number.
    """
    path = run_dir / "metrics.jsonl"
    by_step: dict[int, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # kill -9 in the middle of a write
        where = f"{path}: line {number}"
        entry = check_shape(entry, _Figures, where=where, advice=_ADVICE)
        if not isinstance(step := entry.get("step"), int):
            raise UserError(f"{where}: step: got {step!r}, expected a whole number; {_ADVICE}")
        by_step[step] = entry
    return [by_step[step] for step in sorted(by_step)]


def create_sweep(config: Mapping[str, Any], *, project: str = PROJECT) -> str:
    """Register a sweep with wandb's server and return its id. UserError without an account or a network.

    config: as https://docs.wandb.ai/models/sweeps/sweep-config-keys describes.
    """
    wandb = _import_wandb()
    try:
        return str(wandb.sweep(dict(config), project=project))
    except wandb.errors.Error as error:
        raise UserError(f"wandb sweep: {_one_line(error)}; {_OFF_INSTEAD}, or set backend to optuna") from None


def run_sweep_agent(
    sweep_id: str,
    trial: Callable[[dict[str, Any]], dict[str, float] | None],
    *,
    folder: Path,
    count: int,
    project: str = PROJECT,
) -> None:
    """Let wandb's server choose settings `count` times; each choice becomes a wandb run with the trial's figures.

    trial: chosen values by parameter name -> figures, or None if the trial failed, which is reported to wandb.
    folder: wandb's files go below ``folder/wandb``.
    """
    wandb = _import_wandb()

    def one_trial() -> None:
        run = wandb.init(dir=str(folder), settings=_quiet_settings())
        figures = trial(dict(run.config))
        run.log(figures or {})
        run.finish(exit_code=0 if figures is not None else 1)

    try:
        wandb.agent(sweep_id, function=one_trial, count=count, project=project)
    except wandb.errors.Error as error:
        raise UserError(f"wandb agent: {_one_line(error)}; {_OFF_INSTEAD}") from None


def _start_wandb_run(run_dir: Path, mode: TrackingMode, *, project: str, name: str) -> Any:
    wandb = _import_wandb()
    try:
        return wandb.init(
            project=project,
            name=name or "/".join(run_dir.resolve().parts[-2:]),
            dir=str(run_dir),
            mode=mode,
            id=_wandb_id(run_dir),
            resume="allow" if mode == "online" else None,  # offline there is nothing to ask
            config=_settings_of(run_dir),
            settings=_quiet_settings(),
        )
    except wandb.errors.Error as error:
        raise UserError(f"tracking={mode}: {_one_line(error)}; {_OFF_INSTEAD}, or set tracking to offline") from None


def _import_wandb() -> Any:
    """Import wandb only when tracking is on.

    Its telemetry is switched off, since it would call a server in offline mode too.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    return wandb


def _quiet_settings() -> Any:
    """Figures and settings only: the terminal is left alone, code and git patches stay here."""
    return _import_wandb().Settings(console="off", silent=True, disable_code=True, disable_git=True)


def _wandb_id(run_dir: Path) -> str:
    """The id that this run folder has had since its first call.

    It is random, since two machines may have the same path and wandb would mix their runs.
    """
    path = run_dir / "wandb" / "id.txt"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    return path.read_text(encoding="utf-8")


def _settings_of(run_dir: Path) -> dict[str, Any]:
    """The run's settings as `start_run` wrote them."""
    path = run_dir / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _end_torn_line(path: Path) -> None:
    """After kill -9 in the middle of a line the next one would be glued to it, and lost as well."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
