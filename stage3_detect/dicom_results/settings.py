"""Settings of DICOM results; apart from them, so that a command reads its settings before it loads anything heavy."""

from typing import Literal

from cxr.config import Settings


class ResultSettings(Settings):
    """How results are written."""

    sr_class: Literal["comprehensive", "comprehensive_3d"] = "comprehensive"
    """SOP class of the structured report. comprehensive: OHIF and Stone show it. comprehensive_3d: IHE AIR asks for
    it."""
    capture: Literal["colour", "grey"] = "colour"
    """Pixels of the secondary capture. colour: 8 bits, at most 2048 pixels on a side. grey: size and bits of the
    image."""
