"""A run is made again and compared. tests/test_pipeline.py does it with the three stages themselves."""

from dataclasses import replace
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.runs.run_folder import open_run
from eval.experiments import reproduce as module
from eval.experiments.reproduce import differences_of, reproduce
from tests.cxr.runs.test_run_folder import finished

SCRIPT = """
import random, sys
from pathlib import Path
from cxr.cli import exit_code
from cxr.config import Settings, load_config
from cxr.runs.run_folder import start_run

class Own(Settings):
    seed: int = 0

def main():
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    settings = load_config(Own, Path(sys.argv[1]), ["seed=0"])
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    (out / "weights").write_text(WEIGHTS)
    run.finish({"auroc/mean": FIGURE, "f1/mean": None, "ms_per_image/x": random.random()}, {"weights": out / "weights"})

sys.exit(exit_code(main))
"""


def with_script(folder: Path, monkeypatch: pytest.MonkeyPatch, *, weights: str = "w", figure: float = 0.5) -> None:
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("WEIGHTS", repr(weights)).replace("FIGURE", str(figure)))
    monkeypatch.setattr(module, "SCRIPTS", {"stage1": str(script)})


def test_what_is_no_run_of_a_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        reproduce(tmp_path)


def test_an_equal_run_is_told_by_its_figures_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path / "run")
    with_script(tmp_path, monkeypatch)
    assert reproduce(run) == f"{run}_again: equal to {run} in 2 metrics and the bytes of 1 outputs"


def test_what_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path / "run")
    with_script(tmp_path, monkeypatch, weights="other", figure=0.6)
    with pytest.raises(UserError) as caught:
        reproduce(run, out=tmp_path / "b")
    first, *rest = caught.value.problems
    assert first == f"run {run}: {tmp_path / 'b'} differs in 1 of 2 metrics and 1 of 1 outputs"
    assert rest == ["  output weights", "  metric auroc/mean: 0.5 -> 0.6"]


def test_a_missing_output_and_metric_differ_and_times_do_not(tmp_path: Path) -> None:
    run = open_run(finished(tmp_path / "run"))
    other = replace(run, metrics={"auroc/mean": 0.5, "peak_mib/x": 3.0}, manifest=run.manifest | {"outputs": {}})
    found = differences_of(run, other)
    assert found.other_outputs == ("weights",)
    assert found.other_metrics == ()
    assert differences_of(other, replace(other, metrics={"a": 1.0})).other_metrics == (
        "a: None -> 1.0",
        "auroc/mean: 0.5 -> None",
    )
