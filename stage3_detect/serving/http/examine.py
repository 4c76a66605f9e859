"""Work on one uploaded image, in a thread of the service: decode, quality, boxes or maps, audit, metrics."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cxr.config import UserError
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox, hidden
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.logs import log_error
from stage3_detect.serving.http.schemas import ImageAnswer, MapAnswer, MapsAnswer, detection, model_identity
from stage3_detect.serving.http.schemas import Quality as QualityAnswer
from stage3_detect.serving.http.uploads import Upload
from stage3_detect.serving.interface import DecodedImage, ModelFacts
from stage3_detect.serving.model.images import decode_image


@dataclass(frozen=True)
class Examined:
    """A decoded image, its quality and its boxes, none of them shown if the detector abstains."""

    image: DecodedImage
    quality: Quality
    boxes: Sequence[FoundBox]

    def answer(self, facts: ModelFacts) -> ImageAnswer:
        """For JSON."""
        height, width = self.image.pixels.shape
        return ImageAnswer(
            name=self.image.name,
            width_px=width,
            height_px=height,
            quality=QualityAnswer(
                ok=self.quality.ok,
                reasons=list(self.quality.reasons),
                codes=list(self.quality.codes),
                abstained=self.quality.abstains,
            ),
            detections=[detection(box, facts) for box in self.boxes],
        )


@dataclass(frozen=True)
class Asked:
    """Who asks, on which route; for the audit trail. key_name: "" without API keys."""

    route: str
    key_name: str


def check_point(context: ServiceContext, point: str | None) -> None:
    """
    Raises:
        Refusal: 422 for an operating point that the model does not have.
    """
    points = context.model.facts.points
    if point is not None and point not in points:
        raise Refusal(422, "point", f"Unknown operating point; the model has: {', '.join(points) or 'none'}.")


def examine(context: ServiceContext, upload: Upload, point: str | None, asked: Asked) -> Examined:
    """Boxes of an uploaded image.

    Raises:
        UserError: the file cannot be read.
        Refusal: the audit trail cannot be written.
    """
    image = _decoded(context, upload)
    with context.monitoring.phase("quality"):
        quality = context.model.quality(image)
    with context.monitoring.phase("detect"):
        boxes = context.model.detect(image, point)
    boxes = hidden(boxes) if quality.abstains else boxes
    _record(context, image, asked, num_boxes=sum(box.shown for box in boxes))
    if context.records is not None:
        context.records.add(quality, boxes)
    context.monitoring.found(boxes, quality)
    return Examined(image, quality, boxes)


def examine_maps(context: ServiceContext, upload: Upload, asked: Asked) -> MapsAnswer:
    """Maps of an uploaded image.

    Raises:
        UserError: the file cannot be read.
        Refusal: the audit trail cannot be written.
    """
    image = _decoded(context, upload)
    height, width = image.pixels.shape
    with context.monitoring.phase("maps"):
        maps = context.model.maps(image)
    facts = context.model.facts  # the first call may find that the method of the maps is another one
    _record(context, image, asked, num_boxes=0)
    return MapsAnswer(
        model=model_identity(facts),
        method=facts.map_method,
        width_px=width,
        height_px=height,
        grid_hw=maps[0].values.shape if maps else (0, 0),
        maps=[
            MapAnswer(
                finding=one.finding,
                parents=list(facts.parents.get(one.finding, ())),
                probability=one.probability,
                values_base64=base64.b64encode(one.values.tobytes()).decode(),
            )
            for one in maps
        ],
    )


def _decoded(context: ServiceContext, upload: Upload) -> DecodedImage:
    try:
        with context.monitoring.phase("decode"):
            image: DecodedImage = decode_image(upload.data, upload.name, max_pixels=context.settings.limits.max_pixels)
    except UserError:
        context.monitoring.unreadable()
        raise
    except Exception as error:  # a decoder meets bytes that its authors never saw; the others are still answered
        log_error(error, "decode")
        context.monitoring.unreadable()
        raise UserError("the file cannot be read; it is damaged or of an unknown kind") from None
    if context.corrections is not None:
        context.corrections.keep(image)
    return image


def _record(context: ServiceContext, image: DecodedImage, asked: Asked, *, num_boxes: int) -> None:
    if context.audit is not None:
        context.audit.write(
            key=asked.key_name,
            route=asked.route,
            image_sha256=image.sha256,
            model_sha256=context.model.facts.manifest_sha256,
            num_boxes=num_boxes,
        )
