"""Settings of the DICOM network."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cxr.config import UserError
from stage3_detect.serve import parse
from stage3_detect.serving.dicom.settings import DicomSettings
from stage3_detect.serving.settings import settings_of


@pytest.mark.parametrize(
    "peer", ["10.0.0.5:104:PACS", "localhost:4242:A B", "http://pacs:8042/dicom-web", "https://p/x"]
)
def test_destinations(peer: str):
    assert DicomSettings(port=0, send_to=(peer,)).send_to == (peer,)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"send_to": ()}, "at least 1"),
        ({"send_to": ("localhost:4242",)}, "AE title"),
        ({"send_to": ("localhost:x:PACS",)}, "HOST:PORT:AE"),
        ({"send_to": ("localhost:70000:PACS",)}, "HOST:PORT:AE"),
        ({"send_to": ("http://",)}, "URL"),
        ({"ae": "MUCH_TOO_LONG_TITLE"}, "AE title"),
        ({"ae": "back\\slash"}, "AE title"),
        ({"host": "0.0.0.0"}, "--dicom-peers"),
        ({"quiet_s": -1}, "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], word: str):
    with pytest.raises(ValidationError, match=word):
        DicomSettings.model_validate({"port": 0, "send_to": ("h:1:A",), **changes})


def test_the_command_line_of_the_service():
    given = parse(["run", "--dicom-port", "11112", "--ae", "BOX", "--send-to", "h:1:A", "http://p", "--quiet-s", "0"])
    settings = settings_of(vars(given))
    assert settings.dicom == DicomSettings(port=11112, ae="BOX", send_to=("h:1:A", "http://p"), quiet_s=0)
    assert settings.dicom.folder == Path("dicom_queue")
    assert settings_of(vars(parse(["run"]))).dicom is None
    with pytest.raises(UserError, match="give --dicom-port too"):
        settings_of(vars(parse(["run", "--send-to", "h:1:A"])))
