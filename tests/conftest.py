"""One thread a process: tests run beside each other on small machines, and torch's threads fight there."""

import os

os.environ.setdefault("WANDB_MODE", "offline")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
