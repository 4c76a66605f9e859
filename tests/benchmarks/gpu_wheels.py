"""Which of the project's packages an interpreter lacks, by name and version of the lock file; needs Python alone."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

MODULES = {
    "grad-cam": "pytorch_grad_cam",
    "opencv-python": "cv2",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pylibjpeg-libjpeg": "libjpeg",
    "pylibjpeg-openjpeg": "openjpeg",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
"""Packages that are imported by another name than their own."""


def missing_wheels(root: Path) -> list[str]:
    """`name==version` of the packages that the parts need and this interpreter cannot import, in alphabetical order.

    The project's own requirements are looked up, and what a missing package requires. The requirements of an installed
    package are assumed to be installed.
    """
    versions, children = read_lock(root / "requirements.lock")
    waiting, missing = needed(root), set()
    while waiting:
        name = waiting.pop()
        if name in versions and name not in missing and not is_there(name):
            missing.add(name)
            waiting += children.get(name, [])
    return sorted(f"{name}=={versions[name]}" for name in missing)


def needed(root: Path) -> list[str]:
    """Direct requirements: prediction, training and pytest."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [_name(line) for line in (*project["dependencies"], *project["optional-dependencies"]["train"], "pytest")]


def read_lock(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Versions by name, and for each package the packages that it needs, as uv notes them ("via").

    Of a package with several versions the last one counts, which is that for the newest Python. Packages for other
    systems than Linux are left out.
    """
    versions: dict[str, str] = {}
    children: dict[str, list[str]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([\w.+-]+)(.*)", line):
            name = found[1] if "sys_platform ==" not in line or "linux" in line else ""
            if name:
                versions[name] = found[2]
        elif name and (parent := re.match(r"    #(?: via|  ) ([\w.-]+)$", line)):
            children.setdefault(parent[1], []).append(name)
    return versions, children


def is_there(name: str) -> bool:
    """Whether the package is installed or, as a part of another one, can be imported."""
    try:
        version(name)
    except PackageNotFoundError:
        return find_spec(MODULES.get(name, name.replace("-", "_"))) is not None
    return True


def wrong_torch(root: Path) -> str | None:
    """The installed PyTorch where it is not the lock file's, for example 2.11.0+cu130; else None."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return None
    locked, _ = read_lock(root / "requirements.lock")
    return None if installed.split("+")[0] == locked["torch"] else installed


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0].lower()
