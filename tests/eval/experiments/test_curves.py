"""`eval/run.py curves`: mean, lowest and highest run of each epoch, exactly; runs of different lengths."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxr.cli import EXIT_DONE, EXIT_USER
from cxr.config import UserError
from eval.experiments.curves import curve_table, group_curve
from eval.run import main


def logged(folder: Path, *values: float | None) -> Path:
    """A run that has logged this validation AUROC in its epochs 1, 2, ..."""
    folder.mkdir(parents=True)
    lines = [json.dumps({"step": step, "val/auroc": value}) for step, value in enumerate(values, start=1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_band_reaches_from_the_lowest_to_the_highest_run(tmp_path: Path) -> None:
    runs = [logged(tmp_path / "a", 0.5, 0.9, 0.7), logged(tmp_path / "b", 0.7, 0.6), logged(tmp_path / "c", 0.6, None)]
    curve = group_curve(runs, "val/auroc")
    assert curve.epochs == (1, 2, 3)
    np.testing.assert_allclose(curve.mean, [0.6, 0.75, 0.7])
    np.testing.assert_allclose(curve.band, [[0.5, 0.6, 0.7], [0.7, 0.9, 0.7]])
    assert curve_table({"all": runs}, "val/auroc").rows == [["all", 3, 1, pytest.approx(0.6), 0.5, 0.7]]


def test_a_figure_that_a_run_has_not_logged_is_refused(tmp_path: Path) -> None:
    run = logged(tmp_path / "a", 0.5)
    with pytest.raises(UserError, match=r"has not logged it, only val/auroc"):
        group_curve([run], "val/f1")
    with pytest.raises(UserError, match="only nothing"):
        group_curve([tmp_path / "empty"], "val/f1")


def test_the_command_draws_a_picture_for_each_figure(tmp_path: Path) -> None:
    one, two = logged(tmp_path / "a", 0.5, 0.9), logged(tmp_path / "b", 0.7)
    groups = ["--group", "few", str(one), "--group", "many", str(one), str(two)]
    out = ["--out", str(tmp_path / "out")]
    assert main(["curves", *groups, "--figure", "val/auroc", *out]) == EXIT_DONE
    assert (tmp_path / "out" / "pictures" / "val_auroc.png").is_file()
    assert main(["curves", "--group", "empty", *out]) == EXIT_USER
    assert main(["curves", *groups, "--group", "few", str(one), *out]) == EXIT_USER
