"""What to do when memory runs out: recognise it, and take smaller pieces."""

import torch

from stage2_pseudolabel.settings.cam import CamOptions

SIZES = ("batch_size", "memory_mib", "scorecam_batch_size")
"""The options that say how much is held at a time; none of them changes a map."""

# How PyTorch's allocators of the CPU say it, in lower case (Linux, Windows); a GPU's has a class of its own.
_CPU_MESSAGES = ("can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's or the machine's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _CPU_MESSAGES)


def smaller(options: CamOptions) -> CamOptions | None:
    """Half as many images a forward; from one image on, half the blocks and masked images. None: nothing is left."""
    if options.batch_size > 1:
        return options.model_copy(update={"batch_size": options.batch_size // 2})
    if options.memory_mib == options.scorecam_batch_size == 1:
        return None
    halves = {name: max(1, getattr(options, name) // 2) for name in ("memory_mib", "scorecam_batch_size")}
    return options.model_copy(update=halves)


def free_cached() -> None:
    """Give the GPU's unused blocks back, so that pieces of another size find room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
