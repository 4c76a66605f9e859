"""Settings from the command line of the service."""

from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serve import parse
from stage3_detect.serving.settings import ServiceSettings, settings_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--api-keys"),
        (["--host", "::"], "--api-keys"),
        (["--host", "192.0.2.1"], "--api-keys"),
        (["--keep-images"], "--corrections"),
        (["--set", "max_file=3"], "max_files"),
        (["--set", "max_files=0"], "max_files"),
        (["--set", "max_files"], "key=value"),
        (["--port", "70000"], "port"),
        (["--workers", "0"], "num_workers"),
    ],
)
def test_settings_that_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        settings_of(vars(parse(["run", *arguments])))
    assert len(caught.value.problems) == 1


def test_settings_of_a_command_line() -> None:
    assert settings_of(vars(parse(["run"]))) == ServiceSettings()
    given = ["run", "--host", "0.0.0.0", "--api-keys", "keys", "--set", "max_files=3", "max_pixels=99"]
    settings = settings_of(vars(parse(given)))
    assert (settings.limits.max_files, settings.limits.max_pixels) == (3, 99)
    assert (settings.host, settings.api_keys, settings.is_loopback) == ("0.0.0.0", Path("keys"), False)
