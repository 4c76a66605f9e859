"""When memory runs out: recognise the error and use smaller batches."""

import torch

from stage2_pseudolabel.settings.cam import CamOptions

SIZES = ("batch_size", "memory_mib", "scorecam_batch_size")
"""The options that limit memory; none of them changes a map."""

# messages of PyTorch's CPU allocators in lower case (Linux, Windows); a GPU has its own class of error
_CPU_MESSAGES = ("can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the GPU or the machine is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _CPU_MESSAGES)


def smaller(options: CamOptions) -> CamOptions | None:
    """Half as many images per forward; with one image, half the blocks and masked images. None: nothing to halve."""
    if options.batch_size > 1:
        return options.model_copy(update={"batch_size": options.batch_size // 2})
    if options.memory_mib == options.scorecam_batch_size == 1:
        return None
    halves = {name: max(1, getattr(options, name) // 2) for name in ("memory_mib", "scorecam_batch_size")}
    return options.model_copy(update=halves)


def free_cached() -> None:
    """Free the GPU's unused blocks, so that tensors of another size fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
