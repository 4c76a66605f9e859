"""A process with a DICOM node and a model that always finds the same boxes, for tests that kill it.

python -m tests.stage3_detect.serving.dicom.small_node FOLDER PORT PEER
"""

import sys
import threading
from pathlib import Path

from stage3_detect.image_quality.gate import Gate
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.interface import DecodedImage, FindingMap, ModelFacts
from tests.stage3_detect.dicom_results.dicom_builders import FINDINGS, FOUND
from tests.stage3_detect.serving.dicom.nodes import node


class FixedModel:
    """A model that needs no engine."""

    facts = ModelFacts(
        id="fixed", name="fixed model", findings=FINDINGS, parents={}, codes={}, manifest_sha256="f" * 64,
        format="none", licence="none", card="", points={}, point_confidences={},
        default_point="f1", map_method="", synthetic=True,
    )  # fmt: skip

    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        return list(FOUND)

    def quality(self, image: DecodedImage) -> Quality:
        return Gate().check(image.pixels)

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        return []


if __name__ == "__main__":
    with node(FixedModel(), Path(sys.argv[1]), sys.argv[3], port=int(sys.argv[2]), quiet_s=0.3):
        threading.Event().wait()
