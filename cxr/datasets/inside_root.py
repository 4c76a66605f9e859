"""Paths of a table lie under the data set's folder: none leads out of it, not even by a link."""

import os
import posixpath
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.threads import in_threads

_MAX_DEPTH = 100


def normal_path(path: str) -> str:
    """The shortest spelling of a relative path: ``./a//b/../c.png`` is ``a/c.png``. "" stays ""."""
    return posixpath.normpath(path) if path else ""


def leaves(path: str) -> bool:
    """Whether a path is absolute or begins above its folder, whatever is on the disk."""
    return path.startswith("/") or normal_path(path).split("/")[0] == ".."


def leave_by_link(root: Path, paths: Iterable[str]) -> npt.NDArray[np.bool_]:
    """(N,) True for each path under `root` that a symbolic link leads out of it. Opens no file.

    paths: relative, in their shortest spelling. Each folder is looked at once: 223,000 files take a second or two.
    """
    real_root = os.path.realpath(root)

    def followed(path: str) -> str:
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114  a Path for each takes longer

    @cache
    def real(folder: str) -> str:
        above, _, name = folder.rpartition("/")
        if above.count("/") > _MAX_DEPTH:  # too deep to go up one by one
            return os.path.realpath(f"{real_root}/{folder}")
        return followed(f"{real(above)}/{name}") if name else real_root

    def is_outside(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        try:
            return not f"{followed(f'{real(folder)}/{name}')}/".startswith(f"{real_root}/")
        except ValueError:  # no file has such a name, see `files_exist`
            return False

    return np.array(in_threads(lambda part: [is_outside(path) for path in part], paths), dtype=bool)


def inside(root: Path, path: Path, *, key: str) -> Path:
    """`root / path` for a path that the setting `key` gives. UserError if a relative path leads out of `root`.

    An absolute path is taken as it is: the user wrote it on purpose, as the command for corrections does.
    """
    if path.is_absolute():
        return path
    if leaves(path.as_posix()) or leave_by_link(root, [normal_path(path.as_posix())])[0]:
        raise UserError(f"{key}: {path} leads out of {root}; give a path below `root`")
    return root / path
