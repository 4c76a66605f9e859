"""The machine that a run computes on."""

import os
import platform
import shutil
import subprocess
import sys
from typing import Any


def computes_in_bf16(device_type: str) -> bool:
    """True where a processor ("cpu") or GPU ("cuda") has bfloat16 arithmetic, and not a slow imitation of it."""
    import torch  # eval uses cxr without torch

    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def usual_device() -> str:
    """The name of the device to compute on where nothing else is asked for: cuda, mps or cpu."""
    import torch  # eval uses cxr without torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"


def describe_hardware() -> dict[str, Any]:
    """Entries of the manifest: `machine`, `cpu_count`, `gpus`; with a GPU also `driver`, `cuda` and `cudnn`.

    `gpus` has name, memory_mib and compute_capability of each CUDA GPU that PyTorch finds. It is empty in a process
    that has not loaded PyTorch, which cannot have used a GPU.
    """
    entries: dict[str, Any] = {"machine": platform.machine(), "cpu_count": os.cpu_count(), "gpus": []}
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return entries
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        capability = f"{facts.major}.{facts.minor}"
        memory_mib = facts.total_memory // 2**20
        entries["gpus"].append({"name": facts.name, "memory_mib": memory_mib, "compute_capability": capability})
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return entries | {"driver": driver_version()} | versions


def driver_version() -> str | None:
    """Version of the NVIDIA driver as `nvidia-smi` gives it; None without that program or where it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.split()
    return lines[0] if lines else None


def reset_gpu_peak() -> None:
    """Start to measure `gpu_peak_mib` anew."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def gpu_peak_mib() -> float | None:
    """Most memory of PyTorch's tensors on the current GPU since it was reset, in MiB; None if no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / 2**20
