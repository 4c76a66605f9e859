"""The process's one OpenVINO core."""

import functools

import openvino


@functools.cache
def openvino_core() -> openvino.Core:
    """The core, made by the first call and kept until the process ends.

    The CPU plug-in gives the thread that loads it another signal stack, and frees that stack with the last network. If
    another thread drops that network, the first one keeps the freed stack, and the next signal that Python handles ends
    the process (a segmentation fault without a traceback). A core that stays keeps the plug-in and its stack.

    Files are read, not mapped: a network uses the pages of a mapped file as its weights, so a file that is replaced or
    cut off while it serves would change its boxes or end the process.
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core
