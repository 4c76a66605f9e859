"""Maps for test_stage2_distributed, run by torchrun: ``distributed_maps.py DATA OUT [KILL_RANK]``.

What each process has in the end goes to ``OUT/<rank>.npz`` and ``OUT/<rank>.json``. With KILL_RANK that process kills
itself (SIGKILL) while it writes its second part.
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from cxr.imaging.pictures import Pictures
from stage2_pseudolabel.cam_maps import store
from stage2_pseudolabel.cam_maps.parts import Part
from stage2_pseudolabel.cam_maps.processes import Processes, make_processes
from stage2_pseudolabel.cam_maps.store import SplitMaps, split_maps
from tests.stage1_classify.stage1_builders import stage1_settings
from tests.stage2_pseudolabel.cam_maps.teacher_builders import METHODS, member, teacher


def maps_of(data: Path, folder: Path, processes: Processes) -> SplitMaps:
    """Of two networks, so that scales are measured; pictures are decoded when they are wanted."""
    settings = stage1_settings(data, input={"cache_dir": None})
    both = teacher(data, member(data, seed=0), member(data, seed=1), flips=("none", "horizontal"))
    pictures = Pictures(settings.data.read(), settings.input)
    return split_maps(both, pictures, METHODS, folder=folder, name="tune", processes=processes)


def killed_while_saving(part: Part, file: Path) -> None:
    """The first is whole, half of the second reaches the disk."""
    if not any(file.parent.glob("killed_one_has_*")):
        (file.parent / f"killed_one_has_{file.stem}").touch()
        saved(part, file)
        return
    saved(part, file)
    content = file.read_bytes()
    file.unlink()
    file.with_suffix(".partial").write_bytes(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


saved = Part.save


def main(data: Path, out: Path, kill_rank: int | None) -> None:
    torch.set_num_threads(1)
    processes = make_processes()
    if processes.rank == kill_rank:
        Part.save = killed_while_saving
    with mock.patch.object(store, "compute_part", wraps=store.compute_part) as computed:
        found = maps_of(data, out / "maps", processes)
    facts = {
        "rank": processes.rank,
        "count": processes.count,
        "is_first": processes.is_first,
        "device": str(processes.device),
        "told": processes.from_first({"by": processes.rank}),
        "computed": [call.kwargs["rows"][0] for call in computed.call_args_list],
        "bad": [[item.what, item.reason] for item in found.bad],
    }
    (out / f"{processes.rank}.json").write_text(json.dumps(facts))
    np.savez(out / f"{processes.rank}.npz", probabilities=found.probabilities, **dict(found.maps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
