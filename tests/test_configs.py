"""Every settings file loads, and says what it is for."""

from pathlib import Path

import pytest

from cxr.config import Settings, load_config
from stage1_classify.config import Stage1Settings
from stage2_pseudolabel.config import Stage2Settings
from stage3_detect.config import DetectSettings

CONFIGS = Path(__file__).parent.parent / "configs"
SETTINGS: dict[str, type[Settings]] = {
    "stage1": Stage1Settings,
    "stage2": Stage2Settings,
    "stage3": DetectSettings,
}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_settings_file_loads_and_has_a_header(path: Path) -> None:
    load_config(SETTINGS[path.stem], path)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert header.startswith("#")
    assert "Command: python " in header


def test_the_demo_has_all_three_stages() -> None:
    assert {path.stem for path in (CONFIGS / "demo").iterdir()} == set(SETTINGS)
