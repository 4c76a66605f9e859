"""Name the image that a data-loader worker was reading when it died: out of memory, or by a decoder that crashed."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children

import torch
from torch.utils.data import get_worker_info

from cxr.config import UserError

_NUM_SLOTS = 1024
_NO_ROW = -1


class ReadingNow:
    """The row that each worker of a data loader reads, in memory that all processes share. A part of the data set."""

    def __init__(self) -> None:
        self._slots = torch.full((_NUM_SLOTS, 2), _NO_ROW)  # process id, row
        self._slots.share_memory_()  # type: ignore[no-untyped-call]

    @contextmanager
    def reading(self, row: int) -> Iterator[None]:
        """Note the row while a worker reads it; without workers nothing is noted."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        slot = self._slots[worker.id % _NUM_SLOTS]
        slot[0], slot[1] = os.getpid(), row
        yield
        slot[1] = _NO_ROW

    @contextmanager
    def deaths_named(self, image_ids: Sequence[str], *, setting: str) -> Iterator[None]:
        """Around the use of the loader.

        Args:
            image_ids: the name of each row.
            setting: the setting of the number of workers, for the message.

        Raises:
            UserError: a worker died; it names the image.
        """
        try:
            yield
        except RuntimeError as error:
            found = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", str(error))
            if found is None:
                raise
            active_children()  # reaps the dead, for which torch would raise again when another process ends
            dead = {int(pid) for pid in found[1].split(",")}
            rows = [row for pid, row in self._slots.tolist() if pid in dead and row != _NO_ROW]
            images = ", ".join(image_ids[row] for row in rows)
            doing = f"while it read image {images}" if rows else "while it read no image"
            raise UserError(
                f"{setting}: a data-loader worker {found[2].strip().rstrip('.')} {doing}; if memory ran out, lower "
                f"{setting}, else check that image; then run the same command again to resume"
            ) from None
