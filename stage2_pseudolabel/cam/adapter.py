"""Split a classifier of timm or torchvision into the backbone and head that the CAM engine needs.

The head begins with the global average pooling, or a transformer's pooling or class token. Parameters are shared with
the model, which is not changed.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from cxr.config import UserError
from stage1_classify.model.backbone import map_of_tokens
from stage1_classify.model.heads import Head
from stage2_pseudolabel.cam.graph import evaluation_mode

_TRACE_ERRORS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, NotImplementedError)
_POOLING = (nn.AdaptiveAvgPool2d, nn.functional.adaptive_avg_pool2d, torch.mean, "mean")
_NEEDS_FREE_CHANNELS = frozenset({"ablationcam", "scorecam", "scorecambudget"})


class Logits(NamedTuple):
    """The output of a head that has no maps of its own: logits (B, K)."""

    logits: Tensor


class PooledHead(nn.Module):
    """The layers that follow the features, with the interface of stage 1's `Head`.

    Args:
        tail: features (B, C, h, w) -> logits (B, K), of any h and w.
        unfit_methods: CAM methods that do not work with these features.
    """

    def __init__(self, tail: nn.Module, num_classes: int, *, unfit_methods: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.tail = tail
        self.classifier = _CellClassifier(tail, num_classes)
        self.unfit_methods = unfit_methods
        self.projection_weight = torch.empty(0)

    def forward(self, features: Tensor) -> Logits:
        return Logits(self.tail(features).float())

    def project(self, features: Tensor) -> Tensor:
        """The features themselves, the input of `pool`."""
        self.projection_weight = torch.eye(features.shape[1], device=features.device)
        return features

    def pool(self, projection: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, K)."""
        logits: Tensor = self(projection).logits
        return logits


class _CellClassifier(nn.Module):
    """Logits (B, K, h, w) of each cell alone, as if the map had no other cells."""

    def __init__(self, tail: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.tail, self.out_channels = tail, num_classes

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        cells = features.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        logits: Tensor = self.tail(cells)
        return logits.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


class SplitClassifier(nn.Module):
    """backbone: images -> features (B, C, h, w). head: features -> logits (B, K)."""

    def __init__(self, backbone: nn.Module, head: PooledHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images)).logits
        return logits


def as_classifier(model: nn.Module) -> Any:
    """A classifier for `compute_maps`; one with `backbone` and `head` is returned as it is.

    Args:
        model: a timm classifier (convolutional, Swin, ViT or DeiT), or any model that torch.fx can trace and that ends
            in global average pooling and linear layers, as torchvision's do.

    Features are the input of the pooling. A ViT with a class token does not use the patch tokens after the last block,
    so its features are the patch tokens that enter this block; AblationCAM and ScoreCAM do not work there.

    Raises:
        UserError: the model cannot be split. Tokens that do not form a map are only noticed in the first forward.

    Example:
        >>> import timm
        >>> as_classifier(timm.create_model("resnet18", num_classes=3)).head.classifier.out_channels
        3
    """
    if isinstance(getattr(model, "head", None), Head | PooledHead):
        return model
    with evaluation_mode(model):
        if hasattr(model, "forward_features") and hasattr(model, "forward_head"):
            return _split_timm(model)
        return _split_traced(model)


def _split_timm(model: Any) -> SplitClassifier:
    num_classes = int(getattr(model, "num_classes", 0))
    if num_classes < 1:
        raise _unfit(model, "it has no classifier (num_classes is 0)")
    if getattr(model, "global_pool", "avg") in ("token", "") and hasattr(model, "blocks"):
        head = PooledHead(_ClassTokenTail(model), num_classes, unfit_methods=_NEEDS_FREE_CHANNELS)
        return SplitClassifier(_ClassTokenFeatures(model), head)
    return SplitClassifier(_TimmFeatures(model), PooledHead(_TimmTail(model), num_classes))


class _TimmFeatures(nn.Module):
    """images -> (B, C, h, w), also for networks with tokens or channels last."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.forward_features(images)
        if features.ndim == 3:
            return _map_of_tokens(self.network, features, images.shape[-2:])
        return features.permute(0, 3, 1, 2).contiguous() if _is_channels_last(self.network) else features


class _TimmTail(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        if _is_channels_last(self.network):
            features = features.permute(0, 2, 3, 1)
        elif hasattr(self.network, "num_prefix_tokens"):
            tokens = features.flatten(2).mT
            unused = tokens.new_zeros(len(tokens), self.network.num_prefix_tokens, tokens.shape[-1])
            features = torch.cat([unused, tokens], dim=1)
        logits: Tensor = self.network.forward_head(features)
        return logits


class _ClassTokenFeatures(nn.Module):
    """images -> (B, C + P C, h, w): the patch tokens that enter the last block, then the P prefix tokens.

    The prefix tokens are equal in all cells and get no gradient, so they do not change a map.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        entering: list[Tensor] = []
        handle = self.network.blocks[-1].register_forward_pre_hook(lambda _, given: entering.append(given[0]))
        try:
            self.network.forward_features(images)
        finally:
            handle.remove()
        patches = _map_of_tokens(self.network, entering[0], images.shape[-2:])
        prefix = entering[0][:, : self.network.num_prefix_tokens].flatten(1)[:, :, None, None]
        return torch.cat([patches, prefix.expand(-1, -1, *patches.shape[-2:])], dim=1)


class _ClassTokenTail(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        width = features.shape[1] // (1 + self.network.num_prefix_tokens)
        patches, prefix = features[:, :width].flatten(2).mT, features[:, width:, 0, 0].detach()
        tokens = torch.cat([prefix.reshape(len(prefix), -1, width), patches], dim=1)
        logits: Tensor = self.network.forward_head(self.network.norm(self.network.blocks[-1](tokens)))
        return logits


def _map_of_tokens(network: Any, tokens: Tensor, image_hw: torch.Size) -> Tensor:
    try:
        return map_of_tokens(network, tokens, image_hw)
    except (AttributeError, RuntimeError):
        reason = f"its {tokens.shape[1]} tokens are not its prefix tokens and one token per patch"
        raise _unfit(network, reason) from None


def _is_channels_last(network: Any) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def _split_traced(model: nn.Module) -> SplitClassifier:
    try:
        graph = fx.Tracer().trace(model)
    except _TRACE_ERRORS as error:
        raise _unfit(model, f"torch.fx cannot trace it ({' '.join(str(error).split())[:150]})") from None
    modules = dict(model.named_modules())
    nodes = list(graph.nodes)
    places = [place for place, node in enumerate(nodes) if _is_pooling(node, modules)]
    linear = [modules[n.target] for n in nodes if n.op == "call_module" and type(modules[n.target]) is nn.Linear]
    if not places or not linear:
        raise _unfit(model, "no global average pooling with a linear layer after it was found")
    features = nodes[places[-1]].args[0]
    front, back = fx.Graph(), fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in nodes[: nodes.index(features) + 1]:
        copied[node] = front.node_copy(node, lambda old: copied[old])
    front.output(copied[features])
    after = {features: back.placeholder("features")}
    try:
        for node in nodes[places[-1] :]:
            after[node] = back.node_copy(node, lambda old: after[old])
    except KeyError:
        raise _unfit(model, "layers after the pooling need more than the pooled features") from None
    return SplitClassifier(
        fx.GraphModule(model, front), PooledHead(fx.GraphModule(model, back), linear[-1].out_features)
    )


def _is_pooling(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    target: Any = node.target
    return (type(modules[target]) if node.op == "call_module" else target) in _POOLING


def _unfit(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f"cam: {type(model).__name__} does not fit: {reason}; expected a timm classifier, or a model that ends in "
        "global average pooling and a linear layer, or one with `backbone` and `head` as stage 1's Classifier has them"
    )
