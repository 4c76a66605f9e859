"""The classifier: a backbone and a pooling head. How training calls it, and how to load it from a finished run."""

import logging
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cxr.config import UserError, parse_settings
from cxr.runs.label_files import terms_of
from cxr.runs.run_folder import FinishedRun, open_run
from stage1_classify.data.hierarchy import with_tree
from stage1_classify.data.targets import three_class_columns
from stage1_classify.model.backbone import Backbone
from stage1_classify.model.heads import Head
from stage1_classify.settings.classifier import BackboneSettings, Stage1Settings

log = logging.getLogger("raybox")


class Classifier(nn.Module):
    """Backbone and head. `forward` returns the logits (B, K); `head(backbone(x))` returns the maps as well.

    findings: names of the K columns. uncertain_columns: columns with a third class (policy three_class).
    lateral_backbone: with views.backbones: by_view, the backbone of lateral views; otherwise None.
    """

    def __init__(self, settings: Stage1Settings) -> None:
        super().__init__()
        self.findings = tuple(settings.findings)
        self.uncertain_columns = tuple(three_class_columns(self.findings, settings.labels))
        self.backbone = Backbone(settings.backbone, settings.input.net_hw)
        is_by_view = settings.views.backbones == "by_view"
        self.lateral_backbone = Backbone(settings.backbone, settings.input.net_hw) if is_by_view else None
        self.head = Head(
            self.backbone.num_features,
            len(self.findings),
            settings=settings.head,
            num_uncertain=len(self.uncertain_columns),
        )

    def forward(self, images: Tensor, lateral: Tensor | None = None) -> Tensor:
        """Logits (B, K) of images (B, C, H, W). lateral: see `features`."""
        logits: Tensor = self.head(self.features(images, lateral)).logits
        return logits

    def features(self, images: Tensor, lateral: Tensor | None = None) -> Tensor:
        """Features (B, C, h, w). lateral: (B,) bool, the lateral views, for their own backbone if there is one."""
        own = self.lateral_backbone
        if own is None or lateral is None or not lateral.any():
            own = self.backbone
        elif not lateral.all():
            return self._features_by_view(images, lateral)
        features: Tensor = own(images)
        return features

    def _features_by_view(self, images: Tensor, lateral: Tensor) -> Tensor:
        """Features of images of both views. No network gets an empty batch."""
        assert self.lateral_backbone is not None
        ours, theirs = self.backbone(images[~lateral]), self.lateral_backbone(images[lateral])
        both = ours.new_zeros(len(images), *ours.shape[1:])
        rows = torch.arange(len(images), device=images.device)
        features: Tensor = both.index_copy(0, rows[~lateral], ours).index_copy(0, rows[lateral], theirs)
        return features

    @property
    def backbones(self) -> list[Backbone]:
        """The backbone, and that of lateral views if there is one."""
        return [self.backbone] if self.lateral_backbone is None else [self.backbone, self.lateral_backbone]


class CaseForward(nn.Module):
    """The module that training calls and distributed training wraps: from images to the outputs of their cases."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, cases: Tensor, num_cases: int, lateral: Tensor | None = None) -> Tensor:
        """The logits of a case are the sum of the logits of its images.

        Args:
            images: (N, C, H, W), the images of all cases one after the other, without padding.
            cases: (N,) int64, to which case an image belongs, in [0, num_cases).
            num_cases: B.
            lateral: (N,) bool, the images that are lateral views.

        Returns:
            (B, K + U) float32: logits of the findings, then of the uncertain classes of `model.uncertain_columns`.
        """
        features = self.model.features(images, lateral)
        head = self.model.head
        logits = torch.cat([head(features).logits, head.uncertain_logits(features)], dim=1)
        return logits.new_zeros(num_cases, logits.shape[1]).index_add(0, cases, logits)


def settings_of_run(run: FinishedRun) -> Stage1Settings:
    """The settings of a finished stage 1 run, with the tree, mean and standard deviation that its training used."""
    if "members" in run.manifest:
        raise UserError(f"run {run.dir}: is an ensemble of {len(run.manifest['members'])} runs; give one of them")
    settings = parse_settings(Stage1Settings, run.settings, source=f"run {run.dir}")
    settings = settings.model_copy(update={"hierarchy": with_tree(settings.hierarchy, terms_of(run))})
    normalisation = run.manifest.get("normalisation")
    if normalisation is None:  # a run of an older version: all of them had fixed values
        return settings
    fixed = {"normalise": "fixed", "mean": list(normalisation["mean"]), "std": list(normalisation["std"])}
    return settings.model_copy(update={"input": settings.input.model_copy(update=fixed)})


def load_classifier(run_dir: Path) -> tuple[Classifier, Stage1Settings]:
    """The best model of a finished stage 1 run, on the CPU and in evaluation mode, with its settings.

    Nothing is downloaded: the run's weights replace the initial ones.
    """
    run = open_run(run_dir, stage="stage1")
    settings = settings_of_run(run)
    return read_classifier(settings, run.output("weights")), settings


def read_classifier(settings: Stage1Settings, weights: Path) -> Classifier:
    """A classifier with saved weights, on the CPU and in evaluation mode."""
    model = blank_classifier(settings)
    model.load_state_dict(load_file(weights))
    return model.eval()


def blank_classifier(settings: Stage1Settings) -> Classifier:
    """A classifier with random weights, whatever the settings say of pretrained ones."""
    blank = settings.backbone.model_copy(update={"pretrained": False, "weights": None})
    return Classifier(settings.model_copy(update={"backbone": blank}))


def start_from_run(model: Classifier, run_dir: Path) -> None:
    """Copy the backbone of a finished run into `model`, and the head's weights of the findings that both have.

    The backbone of lateral views becomes that of the run, or its only one.

    Other findings keep their initial weights and are logged. Attention and the third class of a finding are copied if
    both models have them.

    Raises:
        UserError: the run's backbone is another one.
    """
    source, settings = load_classifier(run_dir)
    _check_same_network(model.backbone.settings, settings.backbone, run_dir)
    try:
        for ours, theirs in zip(model.backbones, [*source.backbones, source.backbone], strict=False):
            ours.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"init_from: the backbone of {run_dir}, made for inputs of {settings.input.net_hw}, does not fit; "
            f"give the same input.size_hw: {reason}"
        ) from None
    _take_over_head(model, source)
    taken = [name for name in model.findings if name in source.findings]
    new = [name for name in model.findings if name not in source.findings]
    shown = [", ".join(names) or "none" for names in (taken, new)]
    log.info("init_from %s: head taken over for %s; new: %s", run_dir, *shown)


def _check_same_network(ours: BackboneSettings, theirs: BackboneSettings, run_dir: Path) -> None:
    """Raise a UserError for other backbones, even if their weights would fit by chance."""
    problems = [
        f"init_from: the backbone of {run_dir} does not fit: its {field} is {getattr(theirs, field)}, here "
        f"{getattr(ours, field)}; give the same backbone.{field}"
        for field in ("name", "in_channels", "feature_stage")
        if getattr(ours, field) != getattr(theirs, field)
    ]
    if problems:
        raise UserError(problems)


def _take_over_head(model: Classifier, source: Classifier) -> None:
    """Copy the head's rows of the shared findings."""
    ours, theirs = model.head, source.head
    rows = _shared(model.findings, source.findings)
    uncertain = _shared(_uncertain_findings(model), _uncertain_findings(source))
    _copy_rows(ours.classifier, theirs.classifier, rows)
    if ours.uncertain is not None and theirs.uncertain is not None:
        _copy_rows(ours.uncertain, theirs.uncertain, uncertain)
    if ours.attention is None or theirs.attention is None or not rows:
        return
    if ours.attention.gates.weight.shape != theirs.attention.gates.weight.shape:
        log.info("init_from: the attention stays new, since head.attention_features differs")
        return
    offsets = len(model.findings), len(source.findings)
    ours.attention.gates.load_state_dict(theirs.attention.gates.state_dict())
    attended = rows + [(mine + offsets[0], other + offsets[1]) for mine, other in uncertain]
    _copy_rows(ours.attention.scores, theirs.attention.scores, attended)


def _uncertain_findings(model: Classifier) -> tuple[str, ...]:
    return tuple(model.findings[column] for column in model.uncertain_columns)


def _shared(ours: tuple[str, ...], theirs: tuple[str, ...]) -> list[tuple[int, int]]:
    """Pairs of positions of the names that are in both."""
    return [(place, theirs.index(name)) for place, name in enumerate(ours) if name in theirs]


@torch.no_grad()
def _copy_rows(ours: nn.Module, theirs: nn.Module, pairs: list[tuple[int, int]]) -> None:
    """Copy rows of every parameter, from the second position of each pair to the first."""
    for name, parameter in ours.named_parameters():
        for mine, other in pairs:
            parameter[mine] = theirs.get_parameter(name)[other]
