"""DICOM results of the images of a call, a folder each."""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cxr.config import UserError
from cxr.imaging.files import Pixels
from cxr.imaging.listing import ImageFile
from cxr.input_files import read_regular
from cxr.runs.label_files import terms_of
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun
from eval.detection.points import OperatingPoint
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox

SrClass = Literal["comprehensive", "comprehensive_3d"]
Capture = Literal["colour", "grey"]


class DicomWriter:
    """Writes `folder`/<image id>/report.dcm, presentation_state.dcm and secondary_capture.dcm."""

    def __init__(
        self,
        folder: Path,
        source: FinishedRun,
        point: OperatingPoint,
        findings: Sequence[str],
        *,
        sr_class: SrClass = "comprehensive",
        capture: Capture = "colour",
    ) -> None:
        """
        Args:
            source: the stage 3 run; its manifest identifies the model. sr_class, capture: see `ResultSettings`.

        Raises:
            UserError: the package that writes DICOM is not installed.
        """
        if find_spec("highdicom") is None:
            how = "run make setup, or install the extra: pip install '.[dicom]'"
            raise UserError(f"--dicom: the package highdicom is missing; {how}")
        from stage3_detect.dicom_results.result import Algorithm  # takes a second
        from stage3_detect.dicom_results.settings import ResultSettings

        self.folder = folder
        self._settings = ResultSettings(sr_class=sr_class, capture=capture)
        architecture = Path(str(source.settings["model"])).stem
        self._algorithm = Algorithm(
            name=f"{architecture} detector of {source.dir.resolve().parent.name}",
            version=version("raybox"),
            manifest_sha256=sha256_of(source.dir / "manifest.json"),
            point=point.name,
            findings=tuple(findings),
            synthetic=bool(source.manifest.get("synthetic")),
            codes=terms_of(source).codes,
        )

    def write(self, file: ImageFile, image: Pixels, found: tuple[Sequence[FoundBox], Quality]) -> None:
        """Write the results on one image. found: its boxes, and the verdict on its quality.

        Raises:
            UserError: the file is no DICOM radiograph with the identity that results need.
        """
        from stage3_detect.dicom_results.make import make_results
        from stage3_detect.dicom_results.report import Occasion
        from stage3_detect.dicom_results.result import image_result
        from stage3_detect.dicom_results.source import read_source

        source = read_source(read_regular(file.path), str(file.path))
        result = image_result(source, *found)
        files = make_results(result, image, self._algorithm, self._settings, Occasion(datetime.now()))
        target = self.folder / file.image_id
        target.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (target / name).write_bytes(data)
