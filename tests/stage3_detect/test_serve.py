"""The command serve.py: without anything to serve, and with a new key."""

import subprocess
import sys
from pathlib import Path

import pytest

from stage3_detect.serve import main, parse
from stage3_detect.serving.http.keys import read_keys
from tests.paths import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "stage3_detect/serve.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_to_serve_is_an_error(tmp_path: Path) -> None:
    assert run().returncode == 2
    missing = run(str(tmp_path / "none"))
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ")
    assert missing.stderr.count("\n") == 1


def test_a_new_key_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.txt"
    main(parse(["--new-key", str(path), "ward"]))
    key = capsys.readouterr().out.strip()
    assert read_keys(path).name_of(key) == "ward"
