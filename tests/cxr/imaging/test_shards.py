"""Images in parts: which files a part has, and what the command line may ask for."""

import argparse
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.imaging.listing import ImageFile, Listing
from cxr.imaging.shards import Shard, Split, add_shard_options, make_shards, parse_shard, remove_shards, shards_of
from cxr.runs.run_folder import open_run


def listing(count: int) -> Listing:
    names = [f"{number:03d}.png" for number in range(count)]
    return Listing(tuple(ImageFile(Path(name), name, name) for name in names), ".", 0)


@pytest.mark.parametrize(("num_files", "count", "unit"), [(0, 3, 1), (1, 3, 1), (10, 3, 1), (10, 3, 4), (24, 5, 4)])
def test_parts_follow_each_other_and_hold_every_file_once(num_files: int, count: int, unit: int) -> None:
    whole = listing(num_files)
    parts = [Shard(number, count).part_of(whole, unit=unit).files for number in range(1, count + 1)]
    assert tuple(file for part in parts for file in part) == whole.files
    begins = [whole.files.index(part[0]) for part in parts if part]
    assert all(begin % unit == 0 for begin in begins)
    units = [-(-len(part) // unit) for part in parts]
    assert max(units) - min(units) <= 1


def test_no_part_is_empty_where_parts_are_counted() -> None:
    assert [str(shard) for shard in shards_of(listing(2), 5)] == ["1/2", "2/2"]
    assert [str(shard) for shard in shards_of(listing(9), 5, unit=4)] == ["1/3", "2/3", "3/3"]
    assert shards_of(listing(0), 5) == []


@pytest.mark.parametrize(
    "text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/3/5", "1.0/3", "²/3", "٣/٥", f"1/{'9' * 5000}"]
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected I/N with I from 1 to N"):
        parse_shard(text)


def split(*words: str) -> Split:
    parser = argparse.ArgumentParser()
    add_shard_options(parser)
    given = parser.parse_args(words)
    found = Split.of(given)
    assert vars(given) == {}
    return found


def test_the_command_line_says_how_to_split() -> None:
    assert split() == Split()
    assert split("--shard", "2/3") == Split(Shard(2, 3))
    assert split("--shards", "3") == Split(count=3)
    on_cluster = split("--cluster", "local")
    assert on_cluster.count == 1
    assert on_cluster.cluster is not None
    for words, told in (
        (("--shard", "1/2", "--shards", "2"), "stands for one part"),
        (("--shard", "1/2", "--cluster", "local"), "stands for one part"),
        (("--shards", "0"), "--shards 0: expected 1 or more"),
    ):
        with pytest.raises(UserError, match=told):
            split(*words)


def test_the_folder_of_the_parts_is_next_to_that_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Shard(1, 2).folder(Path("found")) == Path("found.shards/1_of_2")
    assert Shard(1, 2).folder(Path()) == tmp_path.with_name(f"{tmp_path.name}.shards") / "1_of_2"


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    scans = tmp_path / "out.shards" / "scans"
    scans.mkdir(parents=True)
    with pytest.raises(UserError, match=r"out\.shards, which holds 'scans'"):
        make_shards([Shard(1, 1)], lambda shard: (str(shard),), tmp_path / "out", None)
    remove_shards(tmp_path / "out")
    assert scans.is_dir()


PART = """
import sys
from pathlib import Path
from cxr.cli import exit_code
from cxr.config import Settings, UserError
from cxr.runs.run_folder import start_run

def main():
    if sys.argv[1] == "2" and not Path(sys.argv[3]).exists():
        raise UserError("no memory")
    start_run(Path(sys.argv[2]), stage="part", settings=Settings(), inputs={}).finish({}, {}, number=sys.argv[1])

sys.exit(exit_code(main))
"""


def test_a_part_that_fails_is_named_with_its_log_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text(PART)
    shards, out, there = shards_of(listing(4), 2), tmp_path / "out", tmp_path / "there"

    def command(shard: Shard) -> tuple[str, ...]:
        return (str(tmp_path / "part.py"), str(shard.number), str(shard.folder(out)), str(there))

    with pytest.raises(UserError) as caught:
        make_shards(shards, command, out, None)
    log = tmp_path / "out.shards" / "2_of_2.txt"
    assert caught.value.problems[0] == f"shard 2/2: no memory (log: {log})"
    first = (shards[0].folder(out) / "manifest.json").stat().st_mtime_ns
    there.touch()
    make_shards(shards, command, out, None)
    assert [open_run(shard.folder(out)).manifest["number"] for shard in shards] == ["1", "2"]
    assert (shards[0].folder(out) / "manifest.json").stat().st_mtime_ns == first
    remove_shards(out)
    assert not (tmp_path / "out.shards").exists()
