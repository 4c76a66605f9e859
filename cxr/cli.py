"""The command line that all stage commands share: arguments, exit codes, and the log on the terminal."""

import argparse
import errno
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from cxr.config import UserError
from cxr.crashes import report_crashes
from cxr.runs.whole_files import DISK_FULL

# Errors that come from a path given by the user: missing folder, missing rights, existing file, long name, full disk.
_USERS_ERRNO = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}
    | {errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.ETXTBSY}
    | DISK_FULL
)
Option = Literal["several", "check", "cluster", "worker"]
EXIT_DONE, EXIT_USER, EXIT_INTERRUPTED = 0, 2, 130


@dataclass(frozen=True)
class StageArguments:
    """The parsed command line of a stage. `sources` are the run folders of the previous stage. `num_checked`: the N of
    --check-distributed. cluster, cluster_changes: see `cxr.runs.cluster_settings`; None for this machine.
    worker: name of a worker of a sweep."""

    config: Path
    out: Path
    sources: tuple[Path, ...]
    overrides: tuple[str, ...]
    num_checked: int | None = None
    cluster: str | None = None
    cluster_changes: tuple[str, ...] = ()
    worker: str | None = None


def parse_stage_arguments(
    stage: str,
    argv: Sequence[str] | None = None,
    *,
    previous: str | None = None,
    about: str = "",
    options: Collection[Option] = (),
) -> StageArguments:
    """Parse ``[CONFIG] [--from RUN ...] [--out DIR] [--set key=value ...]``.

    Without CONFIG the demo's settings, if it has any of this kind; without --out ``runs/<experiment>/<stage>``; without
    --from the same experiment's previous stage.

    options: "several" if an experiment has several settings files of this kind, --out then ends in the file's name;
        "check" for --check-distributed; "cluster" for --cluster; "worker" for --worker.
    """
    several = "several" in options
    given = _stage_parser(stage, previous, about, options).parse_args(argv)
    experiment = Path("runs") / given.config.resolve().parent.name
    sources = getattr(given, "sources", None) or ([experiment / previous] if previous else [])
    out = given.out or experiment / (given.config.stem if several else stage)
    return StageArguments(
        given.config,
        out,
        tuple(sources),
        tuple(given.set),
        getattr(given, "num_checked", None),
        getattr(given, "cluster", None),
        tuple(getattr(given, "cluster_set", ())),
        getattr(given, "worker", None),
    )


def _stage_parser(stage: str, previous: str | None, about: str, options: Collection[Option]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    demo = Path("configs/demo") / f"{stage}.yaml"
    if (Path(__file__).parents[1] / demo).is_file():
        parser.add_argument("config", nargs="?", type=Path, default=demo, help=f"settings file (default: {demo})")
    else:
        parser.add_argument("config", type=Path, help="settings file")
    shown = f"runs/<experiment>/{'<name of CONFIG>' if 'several' in options else stage}"
    parser.add_argument("--out", type=Path, help=f"run folder (default: {shown})")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change a setting")
    if previous:
        finished = f"finished {previous} run(s)"
        parser.add_argument("--from", dest="sources", nargs="+", type=Path, metavar="RUN", help=finished)
    if "check" in options:
        only = "only compare a few steps of N processes with those of one process; writes no run folder"
        parser.add_argument("--check-distributed", dest="num_checked", type=int, metavar="N", help=only)
    if "cluster" in options:
        add_cluster_options(parser)
    if "worker" in options:
        joins = "only take trials of the sweep that another call has begun in --out, until none is left"
        parser.add_argument("--worker", metavar="NAME", help=joins)
    return parser


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cluster WHERE`` and ``--cluster-set KEY=VALUE ...``; `load_cluster` reads them."""
    where = "run the jobs through submitit: slurm, local (this machine), or a settings file; see docs/cluster.md"
    parser.add_argument("--cluster", metavar="WHERE", help=where)
    ask = "what each job asks for, such as gpus=1 time_h=12 partition=gpu"
    parser.add_argument("--cluster-set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=ask)


def add_encoding_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--encoding NAME`` for a table of the user."""
    encoding = "encoding of the table, for instance cp1252 for CSV of Excel in Western Europe (default: utf-8)"
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help=encoding)


def exit_code(main: Callable[[], None]) -> int:
    """Run `main` and return the exit code.

    A user's mistake gives exit code 2 and one line per problem, without a traceback. SIGTERM ends the command as Ctrl-C
    does, so that whatever it started ends too.
    """
    report_crashes()
    _stop_at_sigterm()
    _show_all_characters()
    _log_to_terminal()
    try:
        main()
    except UserError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return EXIT_USER
    except OSError as error:
        if error.errno not in _USERS_ERRNO:
            raise
        where = f"{error.filename}: " if error.filename else ""
        full = "free some space and run the same command again to resume"
        advice = full if error.errno in DISK_FULL else "check the path and its rights"
        sys.stderr.write(f"error: {where}{error.strerror}; {advice}\n")
        return EXIT_USER
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: repeat the same command to resume\n")
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _stop_at_sigterm() -> None:
    """Raise KeyboardInterrupt at the first SIGTERM; a second one kills.

    Not under torchrun, whose processes may wait for each other inside of a library when it ends them.
    """
    if "RANK" in os.environ or threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _show_all_characters() -> None:
    """Write characters that the terminal cannot show as escapes, such as bytes of a file name that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _log_to_terminal() -> None:
    log = logging.getLogger("raybox")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
