"""The chain is found from each of its runs, and ends where a folder was moved."""

from dataclasses import replace
from pathlib import Path

from cxr.runs.run_folder import open_run
from stage3_detect.run_chain import RunChain, chain_of


def test_a_moved_run_has_no_chain(bundle: Path, tmp_path: Path) -> None:
    stage3, stage2 = open_run(bundle.parents[1]), open_run(bundle.parents[2] / "stage2")
    assert chain_of(replace(stage3, dir=tmp_path)) == RunChain(None, None)
    moved = replace(stage2, dir=tmp_path)
    assert chain_of(moved) == RunChain(moved, None)


def test_the_chain_of_stage_2_and_3(bundle: Path) -> None:
    stage3, stage2 = open_run(bundle.parents[1]), open_run(bundle.parents[2] / "stage2")
    expected = RunChain(stage2, bundle.parents[2] / "stage1")
    assert chain_of(stage3) == expected
    assert chain_of(stage2) == expected
