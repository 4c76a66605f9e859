"""The classifier of a run chain as one ONNX file: from a picture to probabilities and the head's own maps.

The service draws these maps next to the detector's boxes without PyTorch. Normalisation, flips and the label hierarchy
are part of the graph; calibration is not, since its curves are a few numbers.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage1_classify.model.loading import Trained, load_trained
from stage1_classify.model.predict import flipped

FILE_NAME = "classifier.onnx"
MAX_DIFFERENCE = 1e-3
"""Largest difference of probabilities and maps from PyTorch."""


class ClassifierGraph(nn.Module):
    """All networks of a classifier as one graph.

    `forward` takes a picture (1, P, H, W) uint8 (P is 1, or 3 for clahe3) and returns the probabilities (M, K) of the
    M networks, before calibration, and one map per finding, (K, h, w): the probability of each cell, sigmoid of the
    head's logit map, averaged over networks and flips.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.model for member in trained.members)
        self.flips = trained.flips
        self.channels = [member.num_channels for member in trained.members]
        for place, member in enumerate(trained.members):
            for name, values in (("mean", member.input.mean), ("std", member.input.std)):
                self.register_buffer(f"{name}{place}", torch.tensor(values).reshape(1, -1, 1, 1))
            parents = member.probabilities.hierarchy.parent_of
            self.register_buffer(f"ancestors{place}", _ancestors(parents))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        results = [self._member(place, picture) for place in range(len(self.networks))]
        probabilities = torch.cat([probability for probability, _ in results])
        maps = torch.stack([one for _, one in results]).mean(0)
        return probabilities, maps[0]

    def _member(self, place: int, picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, std, ancestors = (self.get_buffer(f"{name}{place}") for name in ("mean", "std", "ancestors"))
        grey = picture.float() / 255
        images = ((grey - mean) / std).expand(-1, self.channels[place], -1, -1)
        logits, maps = [], []
        for flip in self.flips:
            network: Any = self.networks[place]
            output = network.head(network.backbone(flipped(images, flip)))
            logits.append(output.logits)
            maps.append(flipped(torch.sigmoid(output.maps), flip))
        # the product over a finding and its ancestors, as a sum of logarithms
        log_probabilities = nn.functional.logsigmoid(torch.stack(logits).mean(0)) @ ancestors
        return log_probabilities.exp(), torch.stack(maps).mean(0)


def _ancestors(parent_of: tuple[int, ...]) -> Tensor:
    """(K, K): entry (j, k) is 1 if finding j is k or an ancestor of k."""
    matrix = torch.eye(len(parent_of))
    for finding in range(len(parent_of)):
        above = parent_of[finding]
        while above >= 0:
            matrix[above, finding] = 1
            above = parent_of[above]
    return matrix


def export_classifier(run_dir: Path, onnx_path: Path) -> dict[str, Any]:
    """Write the classifier of a finished stage 1 run or ensemble as ONNX, atomically.

    Returns:
        What the service needs to know besides the file: findings, input settings, calibrations.

    Raises:
        UserError: the run is damaged, PyTorch cannot export its backbone, or the members' maps differ in size.
        RuntimeError: the file does not compute what the classifier does: a bug.
    """
    trained = load_trained(run_dir)
    graph = ClassifierGraph(trained).eval()
    picture = _noise(trained)
    partial = onnx_path.with_suffix(".partial")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's comments on timm's code
            names: dict[str, Any] = {"input_names": ["picture"], "output_names": ["probabilities", "maps"]}
            torch.onnx.export(graph, (picture,), str(partial), opset_version=17, dynamo=False, **names)
            expected = [part.numpy() for part in graph(picture)]
    except Exception as error:  # the exporter has no common base class
        partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"classifier {run_dir}: PyTorch cannot export it to ONNX: {reason}") from None
    _add_facts(partial, {"findings": "|".join(trained.settings.findings)})
    _require_agreement(partial, picture.numpy(), expected)
    partial.replace(onnx_path)
    return _facts(trained)


def _facts(trained: Trained) -> dict[str, Any]:
    settings = trained.settings
    own = settings.input
    return {
        "findings": list(settings.findings),
        "parents": dict(settings.hierarchy.parents or {}),
        "method": "pcam" if settings.head.kind == "pcam" else f"cell probabilities of the {settings.head.kind} head",
        "input": {
            "size_hw": list(own.size_hw),
            "keep_aspect": own.keep_aspect,
            "channels": own.channels,
            "clahe_clip": own.clahe_clip,
        },
        "combine": trained.combine,
        "members": [member.probabilities.calibration.as_dict() for member in trained.members],
        "calibration": trained.calibration.as_dict(),
    }


def _noise(trained: Trained) -> Tensor:
    own = trained.settings.input
    shape = (1, 3 if own.channels == "clahe3" else 1, *own.size_hw)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _add_facts(path: Path, facts: Mapping[str, str]) -> None:
    network = onnx.load(path)
    onnx.helper.set_model_props(network, dict(facts))
    path.write_bytes(network.SerializeToString())


def _require_agreement(path: Path, picture: Any, expected: list[Any]) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {"picture": picture})
    worst = max(float(np.abs(one - other).max()) for one, other in zip(got, expected, strict=True))
    if not worst <= MAX_DIFFERENCE:
        raise RuntimeError(f"the ONNX classifier differs from PyTorch by {worst:.3g}; the limit is {MAX_DIFFERENCE}")
