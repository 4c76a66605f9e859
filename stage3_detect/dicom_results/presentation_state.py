"""The grayscale softcopy presentation state: boxes that a viewer draws over the image, a layer for each finding."""

import math
import re
from collections.abc import Sequence

import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import PresentationLUTTransformation
from highdicom.enum import PresentationLUTShapeValues
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import DSfloat

from stage3_detect.dicom_results.burn_in import caption_of
from stage3_detect.dicom_results.groups import polyline_of
from stage3_detect.dicom_results.report import PR_SERIES, Occasion, equipment
from stage3_detect.dicom_results.result import (
    NOT_FOR_DIAGNOSIS,
    Algorithm,
    ImageResult,
    TrackedBox,
    instance_uid,
    series_uid,
)
from stage3_detect.dicom_results.source import SourceImage
from stage3_detect.palette import colour_of

_PIXEL, _DISPLAY = AnnotationUnitsValues.PIXEL, AnnotationUnitsValues.DISPLAY
_NOTE_LAYER = "RAYBOX"
_LAYER_CHARACTERS = 16
"""Of a code string (PS3.5, 6.2)."""
_LINE_PX_SHARE = 0.025
"""Height of a caption, as a share of the image's height."""


def presentation_state(result: ImageResult, algorithm: Algorithm, occasion: Occasion) -> Dataset:
    """The presentation state of one image; it shows the grey values as the image itself asks for."""
    source = result.source
    findings = list(dict.fromkeys(box.finding for box in result.boxes))
    layers = _layers(findings, algorithm)
    annotations = [_annotation(result, finding, layers[finding]) for finding in findings]
    annotations.append(_note(result, layers[_NOTE_LAYER]))
    shape = PresentationLUTShapeValues.INVERSE if source.is_inverted else PresentationLUTShapeValues.IDENTITY
    state: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=[_with_frame_groups(source.header)],
        series_instance_uid=series_uid("presentation states", source),
        series_number=PR_SERIES,
        sop_instance_uid=instance_uid("presentation state", [result], algorithm),
        instance_number=occasion.instance_number,
        content_label="RAYBOX",
        content_description=NOT_FOR_DIAGNOSIS,
        graphic_annotations=annotations,
        graphic_layers=list(layers.values()),
        presentation_lut_transformation=PresentationLUTTransformation(shape),
        series_description="raybox boxes",
        **equipment(algorithm),
    )
    state.PresentationCreationDate = occasion.time.strftime("%Y%m%d")
    state.PresentationCreationTime = occasion.time.strftime("%H%M%S.%f")
    state.Laterality = None  # required, since a chest holds paired structures; it is of both sides
    _add_grey_values(state, source.display)
    return state


def _with_frame_groups(header: Dataset) -> Dataset:
    """The header with empty groups of its frame, which highdicom reads in each SOP class that can have several frames;
    secondary captures of such classes need not have them."""
    completed = Dataset(header)
    completed.NumberOfFrames = 1
    completed.SharedFunctionalGroupsSequence = completed.PerFrameFunctionalGroupsSequence = DicomSequence([Dataset()])
    return completed


def _layers(findings: Sequence[str], algorithm: Algorithm) -> dict[str, GraphicLayer]:
    """A layer for each finding, and one for the note; the first finding on top."""
    layers: dict[str, GraphicLayer] = {}
    names: set[str] = {_NOTE_LAYER}
    for order, finding in enumerate(reversed(findings), start=2):
        name = _layer_name(finding, names)
        names.add(name)
        colour = CIELabColor.from_rgb(*colour_of(finding, algorithm.findings))
        layers[finding] = GraphicLayer(name, order=order, description=finding[:64], display_color=colour)
    return layers | {_NOTE_LAYER: GraphicLayer(_NOTE_LAYER, order=1, description="Note of the algorithm")}


def _layer_name(finding: str, taken: set[str]) -> str:
    """A code string of 16 characters, unlike the others."""
    base = re.sub(r"[^A-Z0-9]+", " ", finding.upper()).strip() or "FINDING"
    name, number = base[:_LAYER_CHARACTERS].strip(), 2
    while name in taken:
        ending = f" {number}"
        name, number = base[: _LAYER_CHARACTERS - len(ending)].strip() + ending, number + 1
    return name


def _annotation(result: ImageResult, finding: str, layer: GraphicLayer) -> GraphicAnnotation:
    """All boxes of a finding, each with its caption and its identity."""
    boxes = [box for box in result.boxes if box.finding == finding]
    return GraphicAnnotation(
        referenced_images=[result.source.header],
        graphic_layer=layer,
        graphic_objects=[_outline(box) for box in boxes],
        text_objects=[_caption(box, result.source) for box in boxes],
    )


def _outline(box: TrackedBox) -> GraphicObject:
    """In PIXEL units the upper left corner of the upper left pixel is (0, 0), as in our boxes (PS3.3, C.10.5.1.2)."""
    return GraphicObject(
        GraphicTypeValues.POLYLINE, polyline_of(box), _PIXEL, tracking_id=box.label, tracking_uid=box.uid
    )


def _caption(box: TrackedBox, source: SourceImage) -> TextObject:
    """Above the box, or inside it at the top of the image."""
    height, width = source.size_hw
    line = max(8.0, _LINE_PX_SHARE * height)
    x1, y1, _, _ = box.xyxy
    top = y1 - line if y1 >= line else y1
    left = min(x1, max(0.0, width - 12 * line))
    place = (left, top, min(float(width), left + 12 * line), min(float(height), top + line))
    return TextObject(
        caption_of(box), _PIXEL, bounding_box=place, text_justification="LEFT", tracking_id=box.label,
        tracking_uid=box.uid,
    )  # fmt: skip


def _note(result: ImageResult, layer: GraphicLayer) -> GraphicAnnotation:
    """At the bottom of the display: not for diagnosis, problems of the image, and why there is no box."""
    text = "\r\n".join([NOT_FOR_DIAGNOSIS, *verdict_lines(result)])
    place = TextObject(text, _DISPLAY, bounding_box=(0.01, 0.90, 0.99, 0.99), text_justification="LEFT")
    return GraphicAnnotation(referenced_images=[result.source.header], graphic_layer=layer, text_objects=[place])


def verdict_lines(result: ImageResult) -> list[str]:
    """What is wrong with the image, and why there is no box, for people."""
    if result.quality.abstains:
        return ["Not analysed:", *result.quality.reasons]
    none = [] if result.boxes else ["No finding reaches the operating point"]
    return [*(f"Image quality: {reason}" for reason in result.quality.reasons), *none]


def _add_grey_values(state: Dataset, display: Dataset) -> None:
    """The modality transformation and the window of the image, so that it looks as without a presentation state."""
    if display.get("ModalityLUTSequence"):
        state.ModalityLUTSequence = display.ModalityLUTSequence
    elif display.get("RescaleSlope") not in (None, "") and display.get("RescaleIntercept") not in (None, ""):
        state.RescaleSlope, state.RescaleIntercept = display.RescaleSlope, display.RescaleIntercept
        state.RescaleType = display.get("RescaleType") or "US"
    item = Dataset()
    center, width = (_first_number(display.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if display.get("VOILUTSequence"):
        item.VOILUTSequence = DicomSequence(list(display.VOILUTSequence)[:1])
    elif center is not None and width:
        item.WindowCenter, item.WindowWidth = center, width
        if display.get("VOILUTFunction"):
            item.VOILUTFunction = display.VOILUTFunction
    if len(item):
        state.SoftcopyVOILUTSequence = DicomSequence([item])


def _first_number(value: object) -> DSfloat | None:
    """The first of several values; None for an empty or odd one."""
    try:
        number = float(np.ravel(np.asarray(value, dtype=np.float64))[0])
    except (IndexError, TypeError, ValueError):
        return None
    return DSfloat(number, auto_format=True) if math.isfinite(number) else None
