"""A few kills of each stage; `make test-kills` makes many."""

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT

NUM = 5


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_stage_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(stage: str) -> None:
    command = [sys.executable, "-m", "tests.kill_stages", "--num", str(NUM), "--stages", stage]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])[stage]
    assert (found["kills"], found["equal"]) == (NUM, NUM)
    assert found["begun"] > 0
