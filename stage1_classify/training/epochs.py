"""What each epoch trains on. All of it follows from seed and epoch, the same for any number of processes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch.utils.data import DataLoader

from stage1_classify.data.augment import Augmentation
from stage1_classify.data.batches import Batch, Split, TrainingSet, training_loader
from stage1_classify.data.hierarchy import make_hierarchy
from stage1_classify.data.targets import three_class_columns
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.losses import MultilabelLoss, positive_weights
from stage1_classify.training.sampling import make_sampler


class Epochs:
    """Order, augmentation, targets and loss of one epoch after another; `begin` comes first.

    During hierarchy.conditional_epochs a child is trained only where its parent is positive; the positive weights
    are those of the targets that are trained.
    """

    loss: MultilabelLoss

    def __init__(self, train: Split, settings: Stage1Settings, *, rank: int, world_size: int) -> None:
        self._train, self._settings = train, settings
        self._sampler = make_sampler(train.targets, settings, rank=rank, world_size=world_size)
        self._items: TrainingSet

    def __len__(self) -> int:
        """Batches an epoch, of each process as of all together."""
        return len(self._sampler)

    def begin(self, epoch: int, device: torch.device) -> None:
        """Prepare `epoch`, from 0."""
        settings, targets = self._settings, self._train.targets
        if epoch < settings.hierarchy.conditional_epochs:
            targets = make_hierarchy(settings.hierarchy, settings.findings).conditional(targets)
        self._items = TrainingSet(
            replace(self._train, targets=targets),
            Augmentation(settings.augment),
            num_channels=settings.backbone.in_channels,
            seed=settings.seed,
        )
        self._items.epoch = self._sampler.epoch = epoch
        self.loss = MultilabelLoss(
            settings.loss,
            findings=settings.findings,
            positive_weight=positive_weights(targets, cap=settings.loss.max_positive_weight),
            uncertain_columns=three_class_columns(settings.findings, settings.labels),
        ).to(device)

    def loader(self) -> DataLoader[Batch]:
        """This process's batches of the epoch, in order."""
        return training_loader(self._items, self._sampler, num_workers=self._settings.train.num_workers)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These cases as the epoch would show them."""
        return next(iter(training_loader(self._items, [list(rows)], num_workers=0)))

    def first_rows(self) -> list[int]:
        """This process's cases in the epoch's first batch."""
        return next(iter(self._sampler))

    def first_rows_alone(self) -> list[int]:
        """The cases of the epoch's first batch where there is one process."""
        alone = make_sampler(self._train.targets, self._settings)
        alone.epoch = self._sampler.epoch
        return next(iter(alone))

    def image_ids(self, batch: Batch) -> list[str]:
        """The names of the batch's images, in their order."""
        views = self._train.cases.views
        rows = [row for case in batch.indices.tolist() for row in views[case]]
        return [self._train.pictures.image_ids[row] for row in rows]


def in_groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches; the last one may be shorter."""
    rest = iter(batches)
    while group := list(islice(rest, size)):
        yield group
