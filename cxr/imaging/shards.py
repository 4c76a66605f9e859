"""Many images in several calls: each call takes one part of the listing, and the parts become one result.

The parts are consecutive, so that the result of all images is that of the parts, one after the other.
"""

import argparse
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr.cli import add_cluster_options
from cxr.config import UserError
from cxr.imaging.listing import Listing
from cxr.runs.cluster_settings import ClusterSettings, load_cluster
from cxr.runs.job_start import Job
from cxr.runs.jobs import failures_of, place_jobs
from cxr.runs.whole_files import next_to
from cxr.threads import num_cores

_SHOWN = 80
"""Characters of an option that an error shows."""

_MADE = re.compile(r"\d+_of_\d+(\.(txt|job|exit))?|cluster|\..*\.partial")
"""Names in the folder of all parts; a killed process leaves partial files."""


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`; the first is 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part_of(self, listing: Listing, *, unit: int = 1) -> Listing:
        """The files of this part. Parts begin at multiples of `unit` files and differ by at most one unit."""
        num_units = -(-len(listing.files) // unit)
        begin, end = (num_units * place // self.count * unit for place in (self.number - 1, self.number))
        return replace(listing, files=listing.files[begin:end])

    def folder(self, out: Path) -> Path:
        """Where the results of this part go, if those of all images go to `out`."""
        return _folder_of_all(out) / f"{self.number}_of_{self.count}"


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--shards N``, ``--shard I/N``, ``--cluster`` and ``--cluster-set``; `Split.of` reads them."""
    shards = "split the images among N processes, or N jobs of --cluster; the result is that of a single call"
    parser.add_argument("--shards", type=int, metavar="N", help=shards)
    shard = "take part I of N only, on a machine of your choice; --shards N then makes the rest and the result"
    parser.add_argument("--shard", metavar="I/N", help=shard)
    add_cluster_options(parser)


@dataclass(frozen=True)
class Split:
    """How a call splits its images. shard: it takes this part. count: it makes so many parts. Both None: it does not
    split. cluster: where the parts are made."""

    shard: Shard | None = None
    count: int | None = None
    cluster: ClusterSettings | None = None

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Split":
        """What the command line asks for; its options are removed from `given`.

        Raises:
            UserError: options that contradict each other or do not validate.
        """
        cluster = load_cluster(given.cluster, given.cluster_set)
        shard = None if given.shard is None else parse_shard(given.shard)
        count = 1 if given.shards is None and cluster is not None else given.shards
        if shard is not None and count is not None:
            raise UserError("--shard: stands for one part; leave out --shards and --cluster")
        if count is not None and count < 1:
            raise UserError(f"--shards {count}: expected 1 or more")
        for name in ("cluster", "cluster_set", "shard", "shards"):
            delattr(given, name)
        return cls(shard, count, cluster)


def parse_shard(text: str) -> Shard:
    """Read ``I/N``. UserError for anything else."""
    match = re.fullmatch(r"([0-9]{1,18})/([0-9]{1,18})", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard {text[:_SHOWN]}: expected I/N with I from 1 to N, for instance 1/8")
    return Shard(number, count)


def shards_of(listing: Listing, count: int, *, unit: int = 1) -> list[Shard]:
    """`count` parts, or as many as there are units of files."""
    count = min(count, -(-len(listing.files) // unit))
    return [Shard(number, count) for number in range(1, count + 1)]


def make_shards(
    shards: Sequence[Shard], command: Callable[[Shard], tuple[str, ...]], out: Path, cluster: ClusterSettings | None
) -> None:
    """Make the missing parts: in processes of this machine, at most one a core, or in jobs of a cluster.

    command: script and arguments of one part, with ``--out`` and ``--shard``.

    Raises:
        UserError: some parts failed, and the same command tries these again; or the folder of the parts holds other
            files.
    """
    if foreign := _foreign(out):
        raise UserError(f"--out {out}: the parts go to {_folder_of_all(out)}, which holds {foreign[0]!r}; give another")
    jobs = [Job(f"shard {shard}", shard.folder(out), command(shard), adds_out=False) for shard in shards]
    starter, num_parallel = place_jobs(
        cluster, _folder_of_all(out) / "cluster", num_parallel=min(len(jobs), num_cores())
    )
    failures = failures_of(jobs, num_parallel=num_parallel, starter=starter)
    problems = [f"{job.name}: {failures[job.out]} (log: {job.log_file})" for job in jobs if job.out in failures]
    if problems:
        raise UserError([*problems, f"{len(problems)} of {len(jobs)} shards failed; the same command tries them again"])


def remove_shards(out: Path) -> None:
    """Remove the folders of all parts, whose results are in `out`. A folder of that name with other files stays."""
    if not _foreign(out):
        shutil.rmtree(_folder_of_all(out), ignore_errors=True)


def _foreign(out: Path) -> list[str]:
    """Names in the folder of all parts that no call of ours has made."""
    folder = _folder_of_all(out)
    return sorted(path.name for path in folder.iterdir() if not _MADE.fullmatch(path.name)) if folder.is_dir() else []


def _folder_of_all(out: Path) -> Path:
    return next_to(out, ".shards")
