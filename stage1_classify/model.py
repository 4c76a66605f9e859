"""The classifier: a timm backbone brought to (B, C, h, w), and a pooling head."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cxr.config import UserError, parse_settings
from cxr.labels import nearest
from cxr.runs import FinishedRun, open_run
from stage1_classify.config import BackboneSettings, Stage1Settings
from stage1_classify.heads import Head


class Backbone(nn.Module):
    """Any timm model as a map of features: (B, in_channels, H, W) to (B, C, h, w)."""

    def __init__(self, settings: BackboneSettings, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network = _create_network(settings, input_hw)
        self.is_pyramid = settings.feature_stage is not None
        if self.is_pyramid:
            self.num_features = int(self.network.feature_info.channels()[-1])
        else:
            self.num_features = int(self.network.num_features)
        self.is_channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images)
        if self.is_pyramid:
            features = features[-1]
        if features.ndim == 3:
            return self._tokens_to_map(features, images.shape[-2:])
        if self.is_channels_last:
            return features.permute(0, 3, 1, 2).contiguous()
        return features

    def _tokens_to_map(self, tokens: Tensor, image_hw: torch.Size) -> Tensor:
        """(B, N, C) with class or register tokens first to (B, C, h, w)."""
        height, width = self.network.patch_embed.dynamic_feat_size(tuple(image_hw))
        patches = tokens[:, int(getattr(self.network, "num_prefix_tokens", 0)) :]
        return patches.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)


class Classifier(nn.Module):
    """Backbone and head. `forward` gives the logits (B, K); `head(backbone(x))` also the maps."""

    def __init__(self, settings: Stage1Settings) -> None:
        super().__init__()
        self.backbone = Backbone(settings.backbone, settings.input.size_hw)
        self.head = Head(
            self.backbone.num_features,
            len(settings.findings),
            kind=settings.head.kind,
            dropout=settings.head.dropout,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).logits


def _create_network(settings: BackboneSettings, input_hw: tuple[int, int]) -> Any:
    if not timm.is_model(settings.name):
        hint = nearest(settings.name, timm.list_models())
        raise UserError(f"backbone.name: timm has no model {settings.name!r}{hint}")
    if settings.weights is not None and not settings.weights.is_file():
        raise UserError(
            f"backbone.weights: no file {settings.weights}; give a file, or leave the setting out"
        )
    options: dict[str, Any] = {"in_chans": settings.in_channels}
    if settings.feature_stage is None:
        options |= {"num_classes": 0, "global_pool": ""}
    else:
        options |= {"features_only": True, "out_indices": (settings.feature_stage,)}
    configuration = timm.get_pretrained_cfg(settings.name, allow_unregistered=True)
    if (
        configuration is not None and configuration.fixed_input_size
    ):  # ViT, Swin: position tables need the size
        options["img_size"] = input_hw
    if settings.output_stride is not None:
        options["output_stride"] = settings.output_stride
    if settings.drop_path_rate is not None:
        options["drop_path_rate"] = settings.drop_path_rate
    if settings.weights is not None:
        options["pretrained_cfg_overlay"] = {"file": str(settings.weights)}
    try:
        return timm.create_model(
            settings.name, pretrained=settings.pretrained or settings.weights is not None, **options
        )
    except (TypeError, RuntimeError, IndexError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"backbone: timm cannot make {settings.name!r} with {options}: {reason}") from None


def start_from_run(model: Classifier, run_dir: Path) -> None:
    """Give `model` the backbone weights of a finished run; its head, which may be of other findings, stays new.

    Raises:
        UserError: the run's backbone is another one.
    """
    source, settings = load_classifier(run_dir)
    try:
        model.backbone.load_state_dict(source.backbone.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"init_from: {run_dir} has the backbone {settings.backbone.name}, "
            f"which does not fit; give the same backbone settings: {reason}"
        ) from None


def settings_of_run(run: FinishedRun) -> Stage1Settings:
    """The settings that a finished stage 1 run was made with."""
    return parse_settings(Stage1Settings, run.settings, source=f"run {run.dir}")


def load_classifier(run_dir: Path) -> tuple[Classifier, Stage1Settings]:
    """The best model of a finished stage 1 run, on the CPU and in evaluation mode, with its settings.

    Nothing is fetched: the run's own weights replace whatever the backbone began with.
    """
    run = open_run(run_dir, stage="stage1")
    settings = settings_of_run(run)
    blank = settings.backbone.model_copy(update={"pretrained": False, "weights": None})
    model = Classifier(settings.model_copy(update={"backbone": blank}))
    model.load_state_dict(load_file(run.output("weights")))
    return model.eval(), settings
