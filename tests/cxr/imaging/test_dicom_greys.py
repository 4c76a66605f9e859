"""Tables, windows and padding: the values that the standard asks for, or a named refusal."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence

from cxr.config import UserError
from cxr.imaging.files import decode_pixels
from tests.cxr.imaging.image_files import RAMP, SCENE, dicom, table

BODY = np.linspace(1000, 1511, 24 * 40).reshape(24, 40)
PLAIN = RAMP / np.float32(4095)
MANY = (8, 4)
"""Repeats that give an image more pixels than it has possible values, so that its greys are looked up."""


def decode(data: bytes) -> np.ndarray:
    return decode_pixels(data, "a.dcm", max_pixels=10**6)


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        decode(data)
    (problem,) = caught.value.problems
    assert problem.startswith("image: cannot decode a.dcm: ")
    return problem


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("repeats", [(1, 1), (8, 8)])
@pytest.mark.parametrize(
    ("kind", "value", "declared"),
    [
        ("uint16", 65535, 65535),
        ("uint16", 0, 0),
        ("int16", -32768, -32768),
        ("int16", -2000, -2000),
        ("uint16", 65535, -1),
        ("int16", -2000, 63536),
    ],
)
def test_padding_is_black_and_left_out_of_the_stretch(
    photometric: str, repeats: tuple[int, int], kind: str, value: int, declared: int
) -> None:
    body = np.tile(BODY.astype(kind), repeats)
    expected = decode(dicom(body[:, 5:], PhotometricInterpretation=photometric))
    body[:, :5] = value
    for_signed = {"PixelPaddingValue": declared}
    data = dicom(body, PhotometricInterpretation=photometric)
    image = decode(with_padding(data, for_signed))
    np.testing.assert_array_equal(image[:, 5:], expected)
    assert image[:, :5].tolist() == [[0.0] * 5] * len(body)
    assert (image[:, 5:].min(), image[:, 5:].max()) == (0, 1)


def with_padding(data: bytes, tags: dict[str, int]) -> bytes:
    """The file with padding values of either sign, whatever sign its pixels have."""
    file = pydicom.dcmread(BytesIO(data))
    for tag, value in zip((0x00280120, 0x00280121), tags.values(), strict=False):
        file.add_new(tag, "US" if value >= 0 else "SS", value)
    written = BytesIO()
    file.save_as(written)
    return written.getvalue()


@pytest.mark.parametrize("ends", [(3000, 3100), (3100, 3000)])
def test_a_range_of_padding_is_left_out(ends: tuple[int, int]) -> None:
    body = BODY.astype(np.uint16)
    body[:, 0], body[:, 1], body[:, 2] = 3000, 3050, 3100
    image = decode(with_padding(dicom(body), dict(zip("ab", ends, strict=True))))
    assert image[:, :3].tolist() == [[0.0] * 3] * 24
    assert image[-1, -1] == 1
    body[:, 1] = 2999
    assert decode(with_padding(dicom(body), dict(zip("ab", ends, strict=True))))[0, 1] == 1


def test_padding_that_no_pixel_has_changes_nothing() -> None:
    np.testing.assert_array_equal(decode(dicom(RAMP, PixelPaddingValue=60000)), decode(dicom(RAMP)))


def test_nothing_but_padding_is_no_image() -> None:
    assert "padding" in refused(dicom(np.full((4, 6), 7, dtype=np.uint16), PixelPaddingValue=7))


@pytest.mark.parametrize("repeats", [(1, 1), MANY])
@pytest.mark.parametrize("bits", [16, 14, 12, 10, 8])
def test_modality_tables_of_all_depths(repeats: tuple[int, int], bits: int) -> None:
    step = np.arange(4096) >> max(0, 12 - bits)
    image = decode(dicom(np.tile(RAMP, repeats), ModalityLUTSequence=table(0, bits, step)))
    expected = np.tile(step[RAMP] / step.max(), repeats)
    np.testing.assert_allclose(image, expected, atol=1e-6)


@pytest.mark.parametrize("repeats", [(1, 1), MANY])
@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_of_falling_values_turn_the_image_around(repeats: tuple[int, int], name: str) -> None:
    image = decode(dicom(np.tile(RAMP, repeats), **{name: table(0, 12, 4095 - np.arange(4096))}))
    np.testing.assert_allclose(image, np.tile(1 - PLAIN, repeats), atol=1e-6)


@pytest.mark.parametrize("first", [-2048, 63488])
def test_the_first_value_of_a_table_has_the_sign_of_the_pixels(first: int) -> None:
    signed = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    image = decode(dicom(np.tile(signed, MANY), ModalityLUTSequence=table(first, 12, np.arange(4096))))
    np.testing.assert_allclose(image, np.tile(PLAIN, MANY), atol=1e-6)


def test_a_table_after_a_negative_intercept() -> None:
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    image = decode(dicom(RAMP, VOILUTSequence=table(64512, 12, np.arange(4096)), **tags))
    np.testing.assert_allclose(image, PLAIN, atol=1e-6)


def test_values_outside_of_a_table_get_its_first_and_last_entry() -> None:
    image = decode(dicom(RAMP, VOILUTSequence=table(1000, 12, np.arange(0, 4000, 2))))
    np.testing.assert_allclose(image, np.clip(RAMP.astype(float) - 1000, 0, 1999) / 1999, atol=1e-6)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(
    ("entries", "bits", "count"),
    [(np.arange(2000), 12, 4096), (np.arange(4096), 12, 2000), (np.arange(4096), 10, None), (np.arange(4096), 7, None),
     (np.arange(4096), 17, None), (np.arange(0), 12, 4096)],
)  # fmt: skip
def test_tables_that_contradict_their_descriptor_are_refused(
    name: str, entries: np.ndarray, bits: int, count: int | None
) -> None:
    assert "grey table" in refused(dicom(RAMP, **{name: table(0, bits, entries, count=count)}))


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_an_empty_table_is_none(name: str) -> None:
    empty = pydicom.Dataset()
    empty.add_new(0x00283002, "US", None)
    empty.add_new(0x00283006, "US", None)
    np.testing.assert_allclose(decode(dicom(RAMP, **{name: Sequence([empty])})), PLAIN, atol=1e-6)
    np.testing.assert_allclose(decode(dicom(RAMP, **{name: Sequence([])})), PLAIN, atol=1e-6)


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleSlope": "", "RescaleIntercept": ""},
        {"RescaleSlope": "1", "RescaleIntercept": ""},
        {"RescaleSlope": "", "RescaleIntercept": "0"},
        {"RescaleSlope": "2.5"},
        {"RescaleIntercept": "-1024"},
        {"WindowCenter": "2048", "WindowWidth": "0"},
        {"WindowCenter": "2048", "WindowWidth": ""},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowWidth": "100"},
        {"WindowCenter": "2047.5", "WindowWidth": "4096", "VOILUTFunction": ""},
        {"WindowCenter": "2047.5", "WindowWidth": "4095", "VOILUTFunction": "LINEAR_EXACT"},
    ],
)
@pytest.mark.parametrize("repeats", [(1, 1), MANY])
def test_entries_that_are_not_filled_in_change_nothing(tags: dict[str, object], repeats: tuple[int, int]) -> None:
    np.testing.assert_allclose(decode(dicom(np.tile(RAMP, repeats), **tags)), np.tile(PLAIN, repeats), atol=2e-4)


@pytest.mark.parametrize("slope", ["-1", "-2.5"])
def test_a_negative_slope_does_not_turn_the_window_around(slope: str) -> None:
    low = 4095 * float(slope)
    tags = {"RescaleSlope": slope, "RescaleIntercept": "0", "WindowCenter": str(low / 2), "WindowWidth": str(1 - low)}
    image = decode(dicom(np.tile(RAMP, MANY), **tags))
    np.testing.assert_allclose(image, np.tile(1 - PLAIN, MANY), atol=5e-4)


@pytest.mark.parametrize("repeats", [(1, 1), (10, 10)])
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"WindowCenter": "2048", "WindowWidth": "1000"}, "equal"),
        ({"WindowCenter": "-5000", "WindowWidth": "10"}, "equal"),
        ({"WindowCenter": ["-500", "128"], "WindowWidth": ["1", "256"]}, "equal"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "equal"),
        ({"RescaleSlope": "0", "RescaleIntercept": "7"}, "equal"),
        ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, "rescale slope"),
        ({"RescaleSlope": "inf", "RescaleIntercept": "0"}, "rescale slope"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "0"}, "not finite"),
        ({"RescaleSlope": "1", "RescaleIntercept": "nan"}, "rescale intercept"),
        ({"RescaleSlope": "1", "RescaleIntercept": "1e308"}, "equal"),
        ({"WindowCenter": "nan", "WindowWidth": "10"}, "window center"),
        ({"WindowCenter": "1e308", "WindowWidth": "10"}, "equal"),
        ({"WindowCenter": "100", "WindowWidth": "inf"}, "window width"),
        ({"WindowCenter": "100", "WindowWidth": "1e308"}, "equal"),
        ({"WindowCenter": "100", "WindowWidth": "-10"}, "Width"),
        ({"WindowCenter": "100", "WindowWidth": "0.5"}, "Width"),
        ({"WindowCenter": "100", "WindowWidth": "50", "VOILUTFunction": "CUBIC"}, "CUBIC"),
        ({"VOILUTSequence": table(0, 8, np.zeros(256))}, "equal"),
        ({"VOILUTSequence": table(5000, 8, np.arange(256))}, "equal"),
    ],
)
def test_what_leaves_no_image_is_refused(tags: dict[str, object], reason: str, repeats: tuple[int, int]) -> None:
    assert reason in refused(dicom(np.tile(SCENE, repeats), **tags))


def test_one_stored_value_is_no_image() -> None:
    assert "equal" in refused(dicom(np.full((3, 5), 7, dtype=np.uint16)))


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_pixels_in_floats(value: float | None) -> None:
    pixels = np.linspace(-1, 3, 24 * 40, dtype=np.float32).reshape(24, 40)
    if value is not None:
        pixels[2, 3] = value
    data = dicom(pixels, FloatPixelData=pixels.tobytes(), PixelData=None, BitsStored=None, HighBit=None)
    if value is None:
        np.testing.assert_allclose(decode(data), (pixels + 1) / 4, atol=1e-6)
    else:
        assert "not finite" in refused(data)


@pytest.mark.parametrize("kind", ["Float", "DoubleFloat"])
def test_padding_of_floats_is_left_out_of_the_stretch(kind: str) -> None:
    pixels = np.linspace(-1, 3, 24 * 40).reshape(24, 40).astype("float32" if kind == "Float" else "float64")
    pixels[:, :5], pixels[:, 5:7] = -1e6, -1e6 - 8
    ends = {f"{kind}PixelPaddingValue": -1e6, f"{kind}PixelPaddingRangeLimit": -1e6 - 9}
    unset = {"PixelData": None, "BitsStored": None, "HighBit": None}
    image = decode(dicom(pixels, **{f"{kind}PixelData": pixels.tobytes()}, **ends, **unset))
    assert image[:, :7].tolist() == [[0.0] * 7] * 24
    body = pixels[:, 7:]
    np.testing.assert_allclose(image[:, 7:], (body - body.min()) / np.ptp(body), atol=1e-6)


@pytest.mark.parametrize("repeats", [(1, 1), MANY])
@pytest.mark.parametrize("tags", [("1", "1e9"), ("1e100", "0"), ("1e-50", "0"), ("-1e100", "1e103")])
def test_large_and_small_rescaled_values_keep_all_their_greys(tags: tuple[str, str], repeats: tuple[int, int]) -> None:
    image = decode(dicom(np.tile(RAMP, repeats), RescaleSlope=tags[0], RescaleIntercept=tags[1]))
    plain = np.tile(PLAIN, repeats)
    np.testing.assert_allclose(image, 1 - plain if tags[0].startswith("-") else plain, atol=1e-6)


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", ["1,5", "wide"])
def test_text_in_place_of_a_number_is_named(name: str, text: str) -> None:
    file = pydicom.dcmread(BytesIO(dicom(RAMP, WindowCenter="2048", WindowWidth="1000")))
    file.add_new(name, "LO", text)
    written = BytesIO()
    file.save_as(written)
    assert f"{text!r}, expected a finite number" in refused(written.getvalue())


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_the_photometric_interpretation_alone_decides_what_is_bright(shape: str) -> None:
    plain = dicom(RAMP, BitsStored=12, HighBit=11)
    other = dicom(RAMP, BitsStored=12, HighBit=11, PresentationLUTShape=shape)
    expected = decode_pixels(plain, "a", max_pixels=960)
    np.testing.assert_array_equal(decode_pixels(other, "a", max_pixels=960), expected)
    assert (expected[0, 0], expected[-1, -1]) == (0, 1)
