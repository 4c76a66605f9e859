"""A recorded training equals itself, and the first thing that differs in another one is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.record_differences import LIMITS, Difference, differences
from stage1_classify.training.recording import largest_difference, read_record, record, shortened
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings
from tests.stage1_classify.training.train_builders import splits

LAST = "epoch 2 step 3"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of three steps with 2, 2 and 1 batches of 4 cases, of a network with batch norms."""
    root = tmp_path_factory.mktemp("recorded")
    train = {"precision": "fp32", "accumulate_steps": 2}
    backbone = {"name": "resnet10t", "feature_stage": 1}
    settings = stage1_settings(patch_folder(root / "data", num_images=60), backbone=backbone, train=train)
    parts = dict(zip(("train", "val"), splits(settings), strict=True))
    (root / "one").mkdir()
    record(make_fabric(settings), parts, settings, root / "one")
    return root / "one"


def wrong(one: Path, other: Path) -> list[Difference]:
    found = differences(read_record(one), read_record(other), LIMITS["fp32"])
    return [difference for difference in found if not difference.is_tolerated]


def test_a_record_equals_itself_in_every_part(recorded: Path) -> None:
    found = list(differences(read_record(recorded), read_record(recorded), LIMITS["fp32"]))
    assert {one.value for one in found} == {0.0}
    figures = ["val/loss", "val/auroc", "val/f1", "val/auprc", "val/probabilistic_f1"]
    assert [one.part for one in found[:8]] == [*figures, "cases of the epoch", "cases", "loss"]
    assert len(found) == 5 + 2 * (1 + 3 * 5 + 1)


def test_the_steps_end_with_incomplete_ones(recorded: Path) -> None:
    steps = read_record(recorded).steps
    assert [step.name for step in steps[:3]] == [f"epoch 1 step {number}" for number in (1, 2, 3)]
    assert [len(step.cases) for step in steps] == [8, 8, 4, 8, 8, 4]
    assert [step.cases for step in steps[:3]] != [step.cases for step in steps[3:]]


def test_what_draws_by_process_is_off_and_a_short_epoch_stays(recorded: Path) -> None:
    settings = stage1_settings(
        recorded.parent / "data", head={"dropout": 0.5}, backbone={"drop_path_rate": 0.5}, sampling={"num_samples": 5}
    )
    short = shortened(settings, splits(settings)[0])
    assert (short.head.dropout, short.backbone.drop_path_rate, short.sampling.num_samples) == (0.0, 0.0, 5)


def changed_loss(out: Path) -> None:
    edit(out, lambda content: content["steps"][5].update(loss=content["steps"][5]["loss"] * 1.0001))


def nan_loss(out: Path) -> None:
    edit(out, lambda content: content["steps"][5].update(loss=float("nan")))


def other_case(out: Path) -> None:
    edit(out, lambda content: content["steps"][5]["cases"].__setitem__(0, 999))


def missing_step(out: Path) -> None:
    edit(out, lambda content: content["steps"].pop())


def other_figure(out: Path) -> None:
    edit(out, lambda content: content["figures"]["before training"].update({"val/auroc": 0.123}))


def edit(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((out / "record.json").read_text())
    change(content)
    (out / "record.json").write_text(json.dumps(content))


def tensor(kind: str, factor: float) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        path = out / f"{LAST}.safetensors"
        tensors = load_file(path)
        save_file({name: t * (factor if name.startswith(kind) else 1) for name, t in tensors.items()}, path)

    return change


@pytest.mark.parametrize(
    ("change", "moment", "part"),
    [
        (changed_loss, LAST, "loss"),
        (nan_loss, LAST, "loss"),
        (other_case, "epoch 2", "cases of the epoch"),
        (missing_step, "epoch 2", "cases of the epoch"),
        (other_figure, "before training", "val/auroc"),
        (tensor("gradient", 2), LAST, "gradients"),
        (tensor("gradient", float("nan")), LAST, "gradients"),
        (tensor("statistic", 1.01), LAST, "statistics"),
        (tensor("weight", 1.01), LAST, "updates"),
    ],
)
def test_the_first_difference_is_named(
    recorded: Path, tmp_path: Path, change: Callable[[Path], None], moment: str, part: str
) -> None:
    other = shutil.copytree(recorded, tmp_path / "other")
    change(other)
    first = wrong(recorded, other)[0]
    assert (first.moment, first.part) == (moment, part)


def test_the_difference_of_tensors_is_relative_to_all_of_them() -> None:
    one = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    other = {"a": torch.tensor([3.0, 0.5]), "b": torch.tensor([4.0])}
    assert largest_difference({}, {}) == (0.0, "")
    assert largest_difference(one, one) == (0.0, "")
    assert largest_difference(one, other) == (0.1, "a")
    assert largest_difference(one, {"a": one["a"]}) == (float("inf"), "b")
