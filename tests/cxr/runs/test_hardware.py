"""The machine in the manifest. What needs a GPU is in tests/test_cuda.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.runs.hardware import driver_version
from tests.paths import ROOT


def described(code: str) -> str:
    """What another process prints, in which PyTorch finds no GPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_without_pytorch_has_no_gpu_and_does_not_load_it() -> None:
    printed = described(
        "import sys; from cxr.runs.hardware import *; reset_gpu_peak()\n"
        "print(sorted(describe_hardware()), describe_hardware()['gpus'], gpu_peak_mib(), 'torch' in sys.modules)"
    )
    assert printed == "['cpu_count', 'gpus', 'machine'] [] None False"


def test_pytorch_without_a_gpu_has_none() -> None:
    printed = described(
        "import torch; from cxr.runs.hardware import *; reset_gpu_peak()\n"
        "print(sorted(describe_hardware()), describe_hardware()['gpus'], gpu_peak_mib())"
    )
    assert printed == "['cpu_count', 'gpus', 'machine'] [] None"


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 580.159.03; echo 580.159.03", "580.159.03"),
        ("true", None),
        ("echo 'NVIDIA-SMI has failed'; exit 9", None),
    ],
)
def test_the_driver_is_that_of_nvidia_smi(
    script: str, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_version() == version


def test_without_nvidia_smi_the_driver_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_version() is None
