"""The documents: links and paths lead to files, lines fit a screen, the README stays short."""

import re
from pathlib import Path

import pytest

from tests.paths import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ("cxr", "eval", "stage1_classify", "stage2_pseudolabel", "stage3_detect", "configs", "docs", "tests")


def anchors_of(path: Path) -> set[str]:
    """The anchors that a Markdown viewer makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_the_text_exist(path: Path) -> None:
    names = re.findall(
        rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w/]*\w\.(?:py|yaml|md|j2))", path.read_text(encoding="utf-8")
    )
    assert not [name for name in names if not (ROOT / name).exists() and "/mine/" not in name and "a/b/" not in name]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_lines_fit_a_screen(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


def test_the_tests_of_techniques_exist() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
    )
    assert len(named) > 50
    files = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in named}
    assert not [f"{file}::{name}" for file, name in named if f"def {name}(" not in files[file]]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
