"""Targets that move towards the network's own probabilities while it trains."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr.arrays import Float32s, Floats
from stage1_classify.training.processes import gather


class MovingLabels:
    """After each epoch L <- a L + (1 - a) P, with the probability P that training predicted for the case.

    A case that an epoch contains several times has the mean of its probabilities, and one that it does not contain
    keeps its targets, as do masked (NaN) and uncertain (-1) ones. All processes get the same targets.

    Args:
        targets: (N, K) of the training set in [0, 1], NaN or -1.
        share: a.
    """

    def __init__(self, targets: Float32s, *, share: float) -> None:
        self.targets = targets.copy()
        self._share = share
        self._begin()

    def _begin(self) -> None:
        self._sums: Floats = np.zeros(self.targets.shape)
        self._counts: Floats = np.zeros(len(self.targets))

    def observe(self, cases: Tensor, outputs: Tensor) -> None:
        """Note the outputs (B, K + U) of a training step for these cases (B,); only the K logits of findings count."""
        probabilities = torch.sigmoid(outputs.detach()[:, : self.targets.shape[1]].float()).cpu().numpy()
        rows = cases.cpu().numpy()
        np.add.at(self._sums, rows, probabilities)
        np.add.at(self._counts, rows, 1)

    def end_epoch(self) -> None:
        """Move the targets by what all processes have observed since the last call."""
        parts = gather((self._sums, self._counts))
        sums, counts = (np.sum([part[place] for part in parts], axis=0) for place in (0, 1))
        means = np.divide(sums, counts[:, None], out=np.zeros_like(sums), where=counts[:, None] > 0)
        moved = self._share * self.targets + (1 - self._share) * means
        changes = (counts[:, None] > 0) & (self.targets >= 0)
        self.targets = np.where(changes, moved, self.targets).astype(np.float32)
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        return {"targets": torch.from_numpy(self.targets)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.targets = state["targets"].numpy()
