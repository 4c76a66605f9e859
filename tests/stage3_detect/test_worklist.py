"""The command that does workitems, as a user calls it; what it does is in serving/dicom/test_worklist.py."""

from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.worklist import main, parse
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, SERIES, STUDY, dicom_bytes
from tests.stage3_detect.serving.dicom.ups_server import ups_server, workitem

ITEM = "1.2.826.0.1.3680043.8.498.77"


def test_workitems_are_done_with_the_model_of_a_bundle(settled_bundle: Path, tmp_path: Path) -> None:
    with ups_server() as pacs:
        command = [str(settled_bundle), pacs.url, "--once", "--claims", str(tmp_path / "claims")]
        main(parse(command))
        assert pacs.asked == ["GET /workitems"]
        pacs.images[IMAGE] = dicom_bytes()
        pacs.add(workitem(ITEM, (STUDY, SERIES, IMAGE)))
        main(parse([*command, "--quality-gate", "off"]))
        assert pacs.state(ITEM) == "COMPLETED"
        assert [file.Modality for file in pacs.stored] == ["SR", "PR", "OT"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pacs:8042"], "worklist pacs:8042: expected the URL"),
        (["http://pacs", "--send-to", "pacs:80"], "--send-to: send_to.0: got 'pacs:80': expected an AE title"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path: Path, words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        main(parse([str(tmp_path), *words]))
