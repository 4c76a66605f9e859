"""Settings of stage 1: loss, sampling, optimizer, schedule, freezing and the training loop."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings


class LossSettings(Settings):
    """The loss of a case, its weights and its targets."""

    kind: Literal["bce", "focal", "asymmetric", "auc_margin"] = "bce"
    """bce: binary cross-entropy. focal: Lin et al. 2017. asymmetric: Ridnik et al. 2021. auc_margin: deep AUC
    maximisation (Yuan et al. 2021), which compares the positives and negatives of a batch; large batches suit it, and
    positive weights and label smoothing do not apply."""
    max_positive_weight: PositiveFloat = 10.0
    """Positives are weighted by N-/N+ of the training set, but at most by this. 1 turns the weighting off."""
    class_weights: dict[str, PositiveFloat] = {}
    """Finding -> weight of its loss. Findings that are not listed have weight 1."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Targets 0 and 1 become this value and 1 minus it."""
    focal_gamma: float = Field(2.0, ge=0)
    """Focusing exponent of the focal loss."""
    gamma_positive: float = Field(0.0, ge=0)
    """Focusing exponent of the asymmetric loss for positives."""
    gamma_negative: float = Field(4.0, ge=0)
    """Focusing exponent of the asymmetric loss for negatives."""
    probability_margin: float = Field(0.05, ge=0, lt=1)
    """Asymmetric loss: negatives with a probability below this have no loss."""
    auc_margin: PositiveFloat = 1.0
    """AUC-margin loss: the desired distance between the mean probabilities of positives and negatives."""


class SamplingSettings(Settings):
    """Which cases an epoch contains. They depend on (seed, epoch) only, for any number of processes."""

    num_samples: PositiveInt | None = None
    """Cases per epoch. None: as many as the training set has."""
    normal_weight: PositiveFloat = 1.0
    """Sampling weight of a case without any positive finding. Other than 1: cases are sampled with replacement."""
    set_weights: dict[str, PositiveFloat] = {}
    """Data set -> sampling weight of its cases, which multiplies `normal_weight`; 1 for sets that are not listed. For
    runs of several data sets (`data.sets`)."""
    balance: Literal["none", "oversample", "undersample"] = "none"
    """Make positives and negatives of `balance_finding` equally frequent. oversample repeats the rarer ones,
    undersample drops some of the more frequent ones, different ones in each epoch. Cases whose target is masked or
    uncertain are excluded and counted. loss.max_positive_weight still applies."""
    balance_finding: str | None = None
    """The finding to balance by."""

    @model_validator(mode="after")
    def _balance_has_a_finding(self) -> "SamplingSettings":
        if (self.balance == "none") != (self.balance_finding is None):
            raise ValueError("balance and balance_finding go together: give both or neither")
        return self


class OptimizerSettings(Settings):
    """How an optimizer step changes the weights."""

    kind: Literal["adamw", "adam", "sgd", "rmsprop", "adagrad"] = "adamw"
    """The optimizer of torch.optim."""
    learning_rate: PositiveFloat = 1e-3
    """Highest learning rate of the schedule, for the head."""
    backbone_scale: PositiveFloat = 1.0
    """The backbone's learning rate divided by the head's (0.1 is usual for fine-tuning)."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each stage of the backbone learns with this times the rate of the stage after it, and the last one with the
    backbone's rate. 1: all alike."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of all parameters except biases, norms and position embeddings. Decoupled for adamw only."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd and rmsprop. one_cycle does not change it."""


class ScheduleSettings(Settings):
    """How the learning rate changes during a training."""

    renamed: ClassVar[Mapping[str, str]] = {"warmup": "warmup_share", "plateau_patience": "plateau_patience_epochs"}

    kind: Literal["one_cycle", "cosine", "warm_restarts", "step", "plateau", "constant"] = "one_cycle"
    """Learning rate schedule. one_cycle, cosine and warm_restarts change the rate after each optimizer step, step and
    plateau after each epoch."""
    warmup_share: float = Field(0.25, gt=0, lt=1)
    """one_cycle: share of the optimizer steps before the peak."""
    restart_epochs: PositiveInt = 10
    """warm_restarts: epochs per cycle."""
    step_epochs: PositiveInt = 10
    """step: epochs between two reductions."""
    factor: float = Field(0.1, gt=0, lt=1)
    """step, plateau: the rate is multiplied by this at each reduction."""
    plateau_patience_epochs: PositiveInt = 5
    """plateau: epochs without a better validation result (by train.select_by) before a reduction."""
    cycle_factors: list[PositiveFloat] | None = None
    """One factor of all learning rates for each cycle of freeze.cycle_epochs. The schedule starts again in each cycle.
    None: one schedule for the whole training."""


class FreezeSettings(Settings):
    """Parts of the network that are not trained for some epochs. Frozen norms keep their statistics."""

    renamed: ClassVar[Mapping[str, str]] = {"round_epochs": "cycle_epochs"}

    backbone_epochs: int = Field(0, ge=0)
    """The backbone is frozen for this many epochs at the start (of each cycle)."""
    gradual_epochs: PositiveInt | None = None
    """After that the backbone's stages are unfrozen one by one, the last stage first, one every this many epochs.
    None: all at once."""
    cycle_epochs: PositiveInt | None = None
    """The freezing starts again after this many epochs. None: it happens once."""
    keep_backbone: bool = False
    """The backbone is never trained."""

    @model_validator(mode="after")
    def _cycle_is_longer_than_the_freeze(self) -> "FreezeSettings":
        if self.cycle_epochs is not None and self.cycle_epochs <= self.backbone_epochs:
            raise ValueError("cycle_epochs must be above backbone_epochs; otherwise only the head is trained")
        return self


class TrainSettings(Settings):
    """The training loop: length, batches, precision, device, and the choice of the best epoch."""

    renamed: ClassVar[Mapping[str, str]] = {"patience": "patience_epochs"}

    num_epochs: PositiveInt
    """Most epochs of a training; see also `patience_epochs`."""
    batch_size: PositiveInt = 32
    """Cases per batch, over all processes together."""
    accumulate_steps: PositiveInt = 1
    """Batches per optimizer step, whose gradients are averaged. Batches left at the end of an epoch make one more
    step."""
    clip_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Validate and keep an exponential moving average of the weights with this decay per optimizer step. The decay at
    step t is at most 1 - t^(-2/3), so that the untrained weights are soon forgotten. None: off."""
    patience_epochs: PositiveInt = 20
    """Training stops after this many epochs without a better validation result."""
    select_by: Literal["auroc", "f1", "probabilistic_f1", "loss"] = "auroc"
    """The validation result by which the best epoch is chosen (mean over the findings). probabilistic_f1: F1 with
    probabilities in place of decisions, which needs no threshold and changes more smoothly (Yacouby and Axman 2020)."""
    min_positives: PositiveInt = 5
    """Findings with fewer validation positives are reported but not used to choose the best epoch."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes the training. mps: the GPU of a Mac. auto: a GPU where PyTorch has one, else the processor."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """fp16 and bf16 are mixed precision; heads always compute in float32. auto: the faster of fp32 and, where the
    processor or GPU computes in it, bf16, as a few steps of this network show at the start."""
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    """Order of images and features in memory. auto: the faster one, as for `precision`. A run with both given does not
    depend on timing."""
    max_skipped_steps: int = Field(20, ge=0)
    """fp16: training stops after more than this many consecutive steps that overflow. Such steps are skipped and
    counted."""
    compile: bool = False
    """Compile the network with torch.compile: a slower start, faster steps on a GPU."""
    num_workers: int = Field(0, ge=0)
    """Processes that load images. 0: the training process loads them."""
