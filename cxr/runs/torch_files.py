"""Checkpoints of torch as whole files."""

from pathlib import Path
from typing import Any

import torch

from cxr.runs.whole_files import whole_file


def save_torch(path: Path, content: Any) -> None:
    """`torch.save` with the guarantees and errors of `whole_file`."""
    with whole_file(path) as partial, partial.open("wb") as file:
        torch.save(content, file)
