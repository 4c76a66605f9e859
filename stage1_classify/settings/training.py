"""Settings of stage 1: how the network learns."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings


class LossSettings(Settings):
    kind: Literal["bce", "focal", "asymmetric"] = "bce"
    """bce: binary cross-entropy. focal: Lin et al. 2017. asymmetric: Ridnik et al. 2021."""
    max_positive_weight: PositiveFloat = 10.0
    """Cap of N-/N+, which weighs positives; raw values reach 95 on CheXpert. 1: no weighing."""
    class_weights: dict[str, PositiveFloat] = {}
    """Finding -> weight of its whole loss; 1 where not given."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Targets move this far towards 1/2."""
    focal_gamma: float = Field(2.0, ge=0)
    gamma_positive: float = Field(0.0, ge=0)
    """Of the asymmetric loss, as the next two."""
    gamma_negative: float = Field(4.0, ge=0)
    probability_margin: float = Field(0.05, ge=0, lt=1)
    """Negatives with a probability below this cost nothing."""


class SamplingSettings(Settings):
    """Which cases an epoch holds. Drawn from (seed, epoch), the same for any number of processes."""

    num_samples: PositiveInt | None = None
    """Cases an epoch; None: as many as there are. More than there are: each as often as the others, but for one time.
    Unequal weights: drawn with replacement."""
    normal_weight: PositiveFloat = 1.0
    """Weight of a case without any positive finding (the source took 0.1)."""
    balance: Literal["none", "oversample", "undersample"] = "none"
    """Make the positives and negatives of `balance_finding` equally many (`num_samples` in all, where given):
    oversample repeats the fewer, undersample leaves out some of the more numerous, others each epoch. Cases whose
    target is masked or uncertain are in no epoch, counted. Mind that loss.max_positive_weight still applies."""
    balance_finding: str | None = None

    @model_validator(mode="after")
    def _balance_is_whole(self) -> "SamplingSettings":
        if (self.balance == "none") != (self.balance_finding is None):
            raise ValueError("balance and balance_finding go together: give both or neither")
        return self


class OptimizerSettings(Settings):
    kind: Literal["adamw", "adam", "sgd", "rmsprop", "adagrad"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    """The highest rate of the schedule, for the head."""
    backbone_scale: PositiveFloat = 1.0
    """The backbone's rate is this times the head's (0.1 is usual when fine-tuning)."""
    weight_decay: float = Field(0.01, ge=0)
    """Not on biases, norms and tables of positions. Only adamw keeps it apart from the gradient."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd and rmsprop; one_cycle leaves it as it is."""


class ScheduleSettings(Settings):
    kind: Literal["one_cycle", "cosine", "warm_restarts", "step", "plateau", "constant"] = "one_cycle"
    """one_cycle, cosine and warm_restarts follow each move of the optimiser, step and plateau each epoch."""
    warmup: float = Field(0.25, gt=0, lt=1)
    """one_cycle: share of the moves before the peak."""
    restart_epochs: PositiveInt = 10
    """warm_restarts: epochs of a cycle."""
    step_epochs: PositiveInt = 10
    """step: epochs between two falls."""
    factor: float = Field(0.1, gt=0, lt=1)
    """step, plateau: what the rate is multiplied by."""
    plateau_patience: PositiveInt = 5
    """plateau: after this many epochs without a better validation (by train.select_by) the rate falls."""


class FreezeSettings(Settings):
    """Parts of the network that do not learn for a while; frozen norms keep their statistics."""

    backbone_epochs: int = Field(0, ge=0)
    """The backbone is frozen for so many epochs at the start (of each round)."""
    gradual_epochs: PositiveInt | None = None
    """After that the backbone's parts, which are timm's stages, wake one by one from the head downwards, one every so
    many epochs; None: all at once."""
    round_epochs: PositiveInt | None = None
    """After so many epochs the freezing starts again (the source: five rounds); None: once."""
    keep_backbone: bool = False
    """The backbone never learns."""

    @model_validator(mode="after")
    def _round_holds_the_freeze(self) -> "FreezeSettings":
        if self.round_epochs is not None and self.round_epochs <= self.backbone_epochs:
            raise ValueError(
                "round_epochs must be above backbone_epochs, or nothing but the head would learn"
            )
        return self


class TrainSettings(Settings):
    num_epochs: PositiveInt
    batch_size: PositiveInt = 32
    """Cases of a batch, over all processes together. A move of the optimiser sees `accumulate_steps` batches."""
    accumulate_steps: PositiveInt = 1
    """Batches whose mean gradient makes one move of the optimiser; those left at an epoch's end make a last one."""
    clip_norm: PositiveFloat = 1.0
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Validate and keep an exponential moving average of weights and running statistics, with this decay a move (at
    move t at most 1 - t^(-2/3), so that the untrained weights do not last); None: off."""
    patience: PositiveInt = 20
    """Stop after this many epochs without a better validation."""
    select_by: Literal["auroc", "f1", "loss"] = "auroc"
    min_positives: PositiveInt = 5
    """Findings with fewer validation positives are reported but do not steer the choice of the model."""
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """auto: bf16-mixed where the processor or GPU has bfloat16 arithmetic, else 32-true. Heads are always float32."""
    max_skipped_steps: int = Field(20, ge=0)
    """16-mixed: so many steps in a row may overflow and be skipped (counted) before training stops."""
    compile: bool = False
    """torch.compile the network for training: slower start, faster steps on a GPU."""
    num_workers: int = Field(0, ge=0)
