"""The only door to Weights & Biases. Off by default: figures always go to ``metrics.jsonl`` in the run folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

TrackingMode = Literal["off", "offline", "online"]


class Tracker:
    """Writes one JSON line a step, and the same figures to wandb where that is asked for."""

    def __init__(
        self, run_dir: Path, mode: TrackingMode = "off", *, project: str = "raybox", name: str = ""
    ) -> None:
        self._path = run_dir / "metrics.jsonl"
        self._wandb_run: Any = None
        if mode != "off":
            import wandb  # kept out of the import path of everybody who has tracking off

            self._wandb_run = wandb.init(
                project=project, name=name or None, dir=str(run_dir), mode=mode, resume="allow"
            )

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
    """The logged lines in order; an interrupted last line is left out, a step logged again replaces the earlier."""
    path = run_dir / "metrics.jsonl"
    by_step: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # kill -9 in the middle of a write
        by_step[entry["step"]] = entry
    return [by_step[step] for step in sorted(by_step)]
