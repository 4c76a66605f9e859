"""What the header of a radiograph must have."""

import pytest

from cxr.config import UserError
from stage3_detect.dicom_results.source import read_source
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, SIZE_HW, dicom_bytes, source


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is not DICOM"),
        (b"\x89PNG\r\n\x1a\n", "is not DICOM"),
        (dicom_bytes(SOPClassUID=None), "of no SOP class"),
        (dicom_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "CT Image Storage"),
        (dicom_bytes(StudyInstanceUID=None), "no StudyInstanceUID"),
        (dicom_bytes(SeriesInstanceUID="1..2"), "an invalid SeriesInstanceUID"),
    ],
)
def test_a_file_that_no_result_can_refer_to_is_refused_by_name(data: bytes, word: str):
    with pytest.raises(UserError, match=word):
        read_source(data, "one.dcm")


def test_facts_of_a_radiograph():
    known = source()
    assert (known.uid, known.size_hw, known.modality, known.is_inverted) == (IMAGE, SIZE_HW, "DX", True)


def test_invalid_values_are_left_out_and_long_ones_are_cut():
    header = source(
        PatientSex="female", PatientBirthDate="19991332", StudyTime="2560", PatientID="x" * 70, PatientName="A=B=C=D"
    ).header
    assert (header.PatientSex, header.PatientBirthDate, header.StudyTime) == ("", "", "")
    assert len(header.PatientID) == 64
    assert str(header.PatientName) == "A=B=C"
