"""What finished runs give back: the classifier, its settings, and a start for other findings."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cxr.config import UserError
from cxr.runs.run_folder import open_run, start_run
from stage1_classify.model.classifier import Classifier, load_classifier, settings_of_run, start_from_run
from stage1_classify.settings.classifier import Stage1Settings
from tests.stage1_classify.stage1_builders import as_read, stage1_settings

SIZE_HW = (32, 48)
OLD = ["Lung Lesion", "Edema", "Pleural Effusion"]
NEW = ["Cardiomegaly", "Pleural Effusion", "Lung Lesion"]
BOTH = [(1, 2), (2, 0)]
"""Places of the findings of both: in NEW, in OLD."""


def settings_for(root: Path, findings: list[str], **changes: Any) -> Stage1Settings:
    return stage1_settings(root, findings=findings, **changes)


def finished_run(out: Path, settings: Stage1Settings, **facts: Any) -> Classifier:
    """A finished run of a network with random weights, which is returned."""
    torch.manual_seed(1)
    model = Classifier(settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    path = out / "best.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    run.finish({}, {"weights": path}, findings=settings.findings, **facts)
    return model.eval()


def new_model(settings: Stage1Settings) -> Classifier:
    torch.manual_seed(2)
    return Classifier(settings)


def test_a_run_gives_back_its_classifier(tmp_path: Path) -> None:
    labels = {"uncertain_by_finding": {"Edema": "three_class"}}
    settings = settings_for(tmp_path, OLD, head={"kind": "attention"}, labels=labels)
    model = finished_run(tmp_path / "run", settings)
    loaded, read = load_classifier(tmp_path / "run")
    assert read == as_read(settings)
    assert not loaded.training
    assert loaded.uncertain_columns == (1,)
    images = torch.randn(2, 1, *SIZE_HW)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_run_reads_no_weights_file_again(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, OLD)
    backbone = settings.backbone.model_copy(update={"weights": Path("gone.pth"), "pretrained": True})
    torch.manual_seed(1)
    model = Classifier(settings)
    run = start_run(
        tmp_path / "run", stage="stage1", settings=settings.model_copy(update={"backbone": backbone}), inputs={}
    )
    save_file(model.state_dict(), run.dir / "best.safetensors")
    run.finish({}, {"weights": run.dir / "best.safetensors"})
    loaded, read = load_classifier(run.dir)
    assert read.backbone.weights == Path("gone.pth")
    assert torch.equal(loaded.head.classifier.weight, model.head.classifier.weight)


def test_readers_normalise_as_training_did(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, OLD, input={"normalise": "training_set", "size_hw": list(SIZE_HW)})
    finished_run(tmp_path / "run", settings, normalisation={"mean": [0.125], "std": [0.3125]})
    read = settings_of_run(open_run(tmp_path / "run"))
    assert (read.input.normalise, read.input.mean, read.input.std) == ("fixed", [0.125], [0.3125])
    assert load_classifier(tmp_path / "run")[1] == read
    others = {"normalise", "mean", "std"}
    assert read.input.model_dump(exclude=others) == settings.input.model_dump(exclude=others)
    assert read.model_dump(exclude={"input"}) == as_read(settings).model_dump(exclude={"input"})


def test_a_run_without_that_fact_keeps_its_settings(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, OLD, input={"mean": [0.4], "std": [0.2]})
    finished_run(tmp_path / "run", settings)
    assert settings_of_run(open_run(tmp_path / "run")) == as_read(settings)


@pytest.mark.parametrize(("old_kind", "new_kind"), [("pcam", "pcam"), ("lse", "attention"), ("attention", "max")])
def test_backbone_and_shared_rows_are_taken_over_by_name(
    tmp_path: Path, old_kind: str, new_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = finished_run(tmp_path / "run", settings_for(tmp_path, OLD, head={"kind": old_kind}))
    settings = settings_for(tmp_path, NEW, head={"kind": new_kind})
    model, untouched = new_model(settings), new_model(settings)
    with caplog.at_level(logging.INFO, logger="raybox"):
        start_from_run(model, tmp_path / "run")
    for name, tensor in old.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor)
    expected = untouched.head.state_dict()
    for mine, other in BOTH:
        expected["classifier.weight"][mine] = old.head.classifier.weight[other]
        expected["classifier.bias"][mine] = old.head.classifier.bias[other]
    assert model.head.state_dict().keys() == expected.keys()
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert "head taken over for Pleural Effusion, Lung Lesion; new: Cardiomegaly" in caplog.text
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_attention_and_uncertain_rows_are_taken_over_by_name(tmp_path: Path) -> None:
    attention = {"kind": "attention", "attention_features": 4}
    labels = {"uncertain_by_finding": {"Edema": "three_class", "Pleural Effusion": "three_class"}}
    old = finished_run(tmp_path / "run", settings_for(tmp_path, OLD, head=attention, labels=labels))
    labels = {"uncertain_by_finding": {"Pleural Effusion": "three_class", "Lung Lesion": "three_class"}}
    settings = settings_for(tmp_path, NEW, head=attention, labels=labels)
    model, untouched = new_model(settings), new_model(settings)
    start_from_run(model, tmp_path / "run")
    was, expected = old.head.state_dict(), untouched.head.state_dict()
    expected["attention.gates.weight"] = was["attention.gates.weight"]
    for mine, other in BOTH:
        for name in ("classifier.weight", "classifier.bias", "attention.scores.weight"):
            expected[name][mine] = was[name][other]
    # Pleural Effusion: first of the new uncertain classes (behind three findings), second of the old ones
    expected["uncertain.weight"][0] = was["uncertain.weight"][1]
    expected["uncertain.bias"][0] = was["uncertain.bias"][1]
    expected["attention.scores.weight"][3] = was["attention.scores.weight"][4]
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_same_settings_give_the_same_classifier(tmp_path: Path) -> None:
    labels = {"uncertain": "three_class"}
    settings = settings_for(tmp_path, OLD, head={"kind": "attention"}, labels=labels)
    old, model = finished_run(tmp_path / "run", settings), new_model(settings)
    start_from_run(model, tmp_path / "run")
    images = torch.randn(2, 1, *SIZE_HW)
    torch.testing.assert_close(model.eval()(images), old(images), rtol=0, atol=0)


def test_no_shared_finding_leaves_the_head_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finished_run(tmp_path / "run", settings_for(tmp_path, OLD, head={"kind": "attention"}))
    settings = settings_for(tmp_path, ["Pneumonia"], head={"kind": "attention"})
    model, untouched = new_model(settings), new_model(settings)
    with caplog.at_level(logging.INFO, logger="raybox"):
        start_from_run(model, tmp_path / "run")
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(tensor, untouched.head.state_dict()[name])
    assert "head taken over for none; new: Pneumonia" in caplog.text


def test_attention_of_another_width_stays_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = finished_run(tmp_path / "run", settings_for(tmp_path, OLD, head={"kind": "attention"}))
    settings = settings_for(tmp_path, NEW, head={"kind": "attention", "attention_features": 4})
    model, untouched = new_model(settings), new_model(settings)
    with caplog.at_level(logging.INFO, logger="raybox"):
        start_from_run(model, tmp_path / "run")
    assert model.head.attention is not None
    assert untouched.head.attention is not None
    for name, tensor in model.head.attention.state_dict().items():
        assert torch.equal(tensor, untouched.head.attention.state_dict()[name])
    assert torch.equal(model.head.classifier.weight[2], old.head.classifier.weight[0])
    assert "attention stays new, since head.attention_features differs" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"in_channels": 3}}, r"does not fit: its in_channels is 1, here 3"),
        ({"backbone": {"feature_stage": 2}}, r"does not fit: its feature_stage is 1, here 2"),
        ({"backbone": {"name": "test_resnet"}}, r"does not fit: its name is test_convnext, here test_resnet"),
    ],
)
def test_another_backbone_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    finished_run(tmp_path / "run", settings_for(tmp_path, OLD))
    with pytest.raises(UserError, match=message):
        start_from_run(new_model(settings_for(tmp_path, OLD, **changes)), tmp_path / "run")


def test_position_tables_of_another_size_are_refused(tmp_path: Path) -> None:
    vit = {"name": "test_vit", "feature_stage": None}
    finished_run(tmp_path / "run", settings_for(tmp_path, OLD, backbone=vit))
    other = settings_for(tmp_path, OLD, backbone=vit, input={"size_hw": [48, 64]})
    with pytest.raises(UserError, match=r"\(32, 48\), does not fit; give the same input\.size_hw"):
        start_from_run(new_model(other), tmp_path / "run")


def test_a_finer_map_of_the_same_weights_is_allowed(tmp_path: Path) -> None:
    whole = {"name": "test_convnext", "feature_stage": None}
    old = finished_run(tmp_path / "run", settings_for(tmp_path, OLD, backbone=whole))
    model = new_model(settings_for(tmp_path, OLD, backbone=whole | {"output_stride": 16}))
    start_from_run(model, tmp_path / "run")
    assert torch.equal(next(model.backbone.parameters()), next(old.backbone.parameters()))
    assert model.backbone(torch.randn(1, 1, *SIZE_HW)).shape[-2:] == (2, 3)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, OLD)
    run = start_run(tmp_path / "run", stage="stage1", settings=settings, inputs={})
    run.release()
    with pytest.raises(UserError, match="is not finished"):
        start_from_run(new_model(settings), tmp_path / "run")
