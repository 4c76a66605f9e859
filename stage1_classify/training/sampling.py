"""Which cases an epoch contains, in which order and in which batches."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from cxr.arrays import Float32s, Floats, Ints
from cxr.config import UserError
from cxr.labels import NO_FINDING, check_findings, nearest
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.training import SamplingSettings

log = logging.getLogger("raybox")

Rows = Ints


@dataclass(frozen=True)
class Pool:
    """An epoch samples `count` of these cases, in proportion to their weights. None: equal weights."""

    rows: Rows
    count: int
    weights: Floats | None = None

    def sample(self, generator: np.random.Generator) -> Rows:
        """(count,) rows. Equal weights: every row equally often, give or take one. Otherwise with replacement."""
        if self.weights is not None:
            return generator.choice(self.rows, self.count, p=self.weights / self.weights.sum())
        laps = [generator.permutation(self.rows) for _ in range(-(-self.count // len(self.rows)))]
        return np.concatenate(laps)[: self.count]


class EpochSampler(Sampler[list[int]]):
    """Batches of one process. The i-th batches of all processes together are the i-th batch of a single process.

    The order depends on (seed, epoch). An incomplete last batch is dropped, so that all processes make equally many
    steps. An integer number of cases means a permutation of them.
    """

    def __init__(
        self, cases: int | Sequence[Pool], batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._pools = [Pool(np.arange(cases), cases)] if isinstance(cases, int) else list(cases)
        self._num_items = sum(pool.count for pool in self._pools)
        if batch_size % world_size:
            raise UserError(f"train.batch_size: got {batch_size}, expected a multiple of the {world_size} processes")
        if self._num_items < batch_size:
            raise UserError(
                f"train.batch_size: got {batch_size}, but an epoch has {self._num_items} cases of the training split; "
                "make it smaller"
            )
        self._batch_size = batch_size
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self._num_items // self._batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for step in range(len(self)):
            batch = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield batch[self._rank :: self._world_size].tolist()

    def first_batch(self) -> list[int]:
        """The epoch's first batch, of all processes together."""
        return list(self._order()[: self._batch_size].tolist())

    def _order(self) -> Rows:
        generator = np.random.default_rng((self._seed, self.epoch))
        sampled = [pool.sample(generator) for pool in self._pools]
        return sampled[0] if len(sampled) == 1 else generator.permutation(np.concatenate(sampled))


def make_sampler(
    targets: Float32s,
    settings: Stage1Settings,
    *,
    sets: Sequence[str] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> EpochSampler:
    """The sampler of a training split with these targets (B, K). Set its `epoch` before each epoch.

    sets: (B,) data set of each case; None: all of one.
    """
    weights = weights_of_sets([""] * len(targets) if sets is None else sets, settings.sampling.set_weights)
    pools = make_pools(targets, settings.sampling, settings.findings, set_weights=weights)
    return EpochSampler(pools, settings.train.batch_size, seed=settings.seed, rank=rank, world_size=world_size)


def make_pools(
    targets: Float32s, settings: SamplingSettings, findings: Sequence[str], *, set_weights: Floats | None = None
) -> list[Pool]:
    """What an epoch samples from: all cases, or the positives and the negatives of `balance_finding`.

    set_weights: (B,) factors of the cases' weights, see `weights_of_sets`.
    """
    weights = case_weights(targets, settings, findings)
    if set_weights is not None:
        weights = weights * set_weights
    if settings.balance_finding is None:
        count = len(targets) if settings.num_samples is None else settings.num_samples
        return [_pool(np.arange(len(targets)), count, weights)]
    check_findings([settings.balance_finding], findings, source="sampling.balance_finding")
    column = targets[:, list(findings).index(settings.balance_finding)]
    sides = [np.flatnonzero(column >= 0.5), np.flatnonzero((column >= 0) & (column < 0.5))]
    num_unknown = len(targets) - len(sides[0]) - len(sides[1])
    if num_unknown:
        log.info(
            "sampling: %d cases without a certain label of %s are never sampled", num_unknown, settings.balance_finding
        )
    counts = _balanced_counts((len(sides[0]), len(sides[1])), settings)
    return [_pool(rows, count, weights) for rows, count in zip(sides, counts, strict=True)]


def case_weights(targets: Float32s, settings: SamplingSettings, findings: Sequence[str]) -> Floats:
    """(B,) `normal_weight` for cases without a positive finding ("No Finding" does not count), 1 for the others."""
    diseases = [column for column, finding in enumerate(findings) if finding != NO_FINDING]
    positive = (targets[:, diseases] >= 0.5).any(axis=1)
    return np.where(positive, 1.0, settings.normal_weight)


def weights_of_sets(sets: Sequence[str], weights: Mapping[str, float]) -> Floats:
    """(B,) weight of each case by its data set, 1 where `weights` does not list it.

    Raises:
        UserError: a name of `weights` is none of the sets.
    """
    known = [name for name in dict.fromkeys(sets) if name]
    problems = [
        f"sampling.set_weights: no data set {name!r} in the training split{nearest(name, known)}; it has "
        f"{', '.join(known) or 'a single one, without a weight'}; correct the name or remove it"
        for name in weights
        if name not in known
    ]
    if problems:
        raise UserError(problems)
    return np.array([weights.get(name, 1.0) for name in sets], dtype=np.float64)


def _pool(rows: Rows, count: int, weights: Floats) -> Pool:
    own = weights[rows]
    return Pool(rows, count, None if (own == own[:1]).all() else own)


def _balanced_counts(there: tuple[int, int], settings: SamplingSettings) -> tuple[int, int]:
    """Positives and negatives per epoch. With an odd `num_samples` there is one more negative."""
    if 0 in there:
        raise UserError(
            f"sampling.balance_finding: {settings.balance_finding} has {there[0]} positives and {there[1]} negatives "
            "in the training split, expected both; balance another finding"
        )
    if settings.num_samples is None:
        each = max(there) if settings.balance == "oversample" else min(there)
        return each, each
    counts = settings.num_samples // 2, settings.num_samples - settings.num_samples // 2
    if settings.balance == "undersample" and max(counts) > min(there):
        raise UserError(
            f"sampling.num_samples: got {settings.num_samples}, but undersampling leaves {2 * min(there)} cases "
            f"({there[0]} positives and {there[1]} negatives of {settings.balance_finding}); "
            "lower it or set balance: oversample"
        )
    return counts
