"""Coverage-guided fuzzing of everything that reads a file from outside: `make fuzz`.

    python -m tests.fuzz_parsers TARGET [--seconds 600] [--findings DIR]

Each input must be read, or refused with a UserError. An input that raises anything else, or takes more than `TIMEOUT_S`
or `MEMORY_MB`, ends the run with an exit code above 0 and stays in DIR. Needs atheris, which `make fuzz` installs.
"""

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cxr", "pydicom", "yaml", "xml"]):
    from cxr.coco import read_coco
    from cxr.config import UserError
    from cxr.datasets.csv_table import CsvTableData
    from cxr.datasets.openi import OpeniData
    from cxr.datasets.tbx11k import Tbx11kData
    from cxr.imaging.files import decode_pixels, read_size_hw
    from cxr.labels import load_terminology
    from cxr.yaml_files import parse_yaml

import cv2
import numpy as np

from tests.builders import tbx11k_folder, voc_xml, write_picture
from tests.stage3_detect.dicom_results.dicom_builders import dicom_bytes

MAX_PIXELS = 10**7
TIMEOUT_S, MEMORY_MB, MAX_BYTES = 20, 4096, 20_000

CSV = b"image,patient,effusion,heart,width,height\na.png,p1,1,-1,60,40\nb.png,p2,0,,,\n"
COCO = b"""{"images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40, "labels": {"Edema": 1}}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "area": 14}],
"categories": [{"id": 1, "name": "Edema"}]}"""
LABEL_FILE = b"built_in: true\nfindings:\n  Air: {}\n  Bulla: {parent: Air, synonyms: [bulle], en: [bulla]}\n"
OPENI = b"""<eCitation><uId id="CXR1"/><MeSH><major>Opacity/lung/base/left</major></MeSH>
<parentImage id="CXR1_1_IM-0001-3001"/></eCitation>"""


@dataclass(frozen=True)
class Target:
    """read: gets an input and a folder of the process. seeds: valid inputs to start from."""

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]


def _images() -> list[bytes]:
    grey = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    files = [(".png", grey * 25), (".png", (grey % 256).astype(np.uint8)), (".jpg", (grey % 256).astype(np.uint8))]
    files += [(".tiff", grey), (".bmp", (grey % 256).astype(np.uint8)), (".jp2", grey)]
    return [cv2.imencode(suffix, pixels)[1].tobytes() for suffix, pixels in files]


def _decode(data: bytes, folder: Path) -> None:
    path = folder / "image"
    path.write_bytes(data)
    with contextlib.suppress(UserError):  # a damaged header; the pixels are tried all the same
        read_size_hw(path)
    decode_pixels(data, "the image", max_pixels=MAX_PIXELS)


def _csv(data: bytes, folder: Path) -> None:
    for name in ("a", "b"):
        if not (folder / f"{name}.png").exists():
            write_picture(folder / f"{name}.png", bright_xyxy=(1, 1, 5 + ord(name) % 7, 9))
    (folder / "table.csv").write_bytes(data)
    columns = {"image": "image", "patient": "patient", "width": "width", "height": "height"}
    findings = {"effusion": "Pleural Effusion", "heart": "Cardiomegaly"}
    values = {"root": folder, "table": "table.csv", "columns": columns, "findings": findings}
    CsvTableData.model_validate(values | {"on_problem": "exclude"}).read()


def _coco(data: bytes, folder: Path) -> None:
    (folder / "boxes.json").write_bytes(data)
    read_coco(folder / "boxes.json")


def _tbx11k(data: bytes, folder: Path) -> None:
    root = folder / "tbx11k"
    if not root.exists():
        tbx11k_folder(root)
    (root / "annotations/xml/tb0001.xml").write_bytes(data)
    Tbx11kData.model_validate({"root": root, "on_problem": "exclude"}).read()


def _openi(data: bytes, folder: Path) -> None:
    (folder / "ecgen-radiology").mkdir(exist_ok=True)
    (folder / "ecgen-radiology" / "1.xml").write_bytes(data)
    OpeniData.model_validate({"root": folder, "on_problem": "exclude", "view": "all"}).read()


def _yaml(data: bytes, folder: Path) -> None:
    parse_yaml(data.decode("utf-8", errors="replace"), source="the file")


def _label_file(data: bytes, folder: Path) -> None:
    (folder / "labels.yaml").write_bytes(data)
    load_terminology(folder / "labels.yaml")


TARGETS: Mapping[str, Target] = {
    "image": Target(_decode, _images),
    "dicom": Target(_decode, lambda: [dicom_bytes()]),
    "csv": Target(_csv, lambda: [CSV, CSV.replace(b",", b";"), CSV.decode().encode("utf-16")]),
    "coco": Target(_coco, lambda: [COCO]),
    "voc_xml": Target(_tbx11k, lambda: [voc_xml([("ActiveTuberculosis", 1, 2, 30, 20)], size_wh=(240, 400)).encode()]),
    "report_xml": Target(_openi, lambda: [OPENI]),
    "yaml": Target(_yaml, lambda: [LABEL_FILE, b"a: &x [1, 2]\nb: *x\n"]),
    "label_file": Target(_label_file, lambda: [LABEL_FILE]),
}


def main() -> None:
    """Fuzz one target. Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), metavar="DIR")
    given = parser.parse_args()
    target = TARGETS[given.target]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))  # stays, since libFuzzer ends the process; small
    corpus = folder / "corpus"
    corpus.mkdir()
    given.findings.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    def read(data: bytes) -> None:
        with contextlib.suppress(UserError):
            target.read(data, folder)

    limits = [f"-max_total_time={given.seconds}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
    keep = f"-artifact_prefix={given.findings}{os.sep}{given.target}-"
    atheris.Setup([sys.argv[0], *limits, f"-max_len={MAX_BYTES}", keep, str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
