"""Tiny data sets in the real layouts. A broken case is one argument away: the default is sound.

Pictures are never square, and small. Every builder returns the folder to give as `root`.
"""

import csv
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cxr.labels import CHEXPERT_FINDINGS
from cxr.phantom.dicom import DicomFacts, write_dicom

SIZE_HW = (40, 60)

CHEXPERT_HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]

NIH_FACTS = ["Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
NIH_SIZES = ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
NIH_HEADER = ["Image Index", "Finding Labels", *NIH_FACTS, *NIH_SIZES]
NIH_BOX_HEADER = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]
"""As the release has it: one quoted name too few, so the brackets split, and three empty columns."""

VINDR_LABELS = ("Cardiomegaly", "Nodule/Mass", "COPD", "No finding")

KAGGLE_HEADER = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")

Row = Sequence[object]


class PickledCall:
    """Unpickled, it is the result of a call, as in a pickle that runs code."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def write_picture(path: Path, size_hw: tuple[int, int] = SIZE_HW, *, bright_xyxy: Sequence[int] | None = None) -> None:
    """A dark picture with, where asked, one bright box; the kind by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full(size_hw, 20, dtype=np.uint8)
    # Files must differ, since identical ones are duplicates: the name leaves a trace in a corner.
    picture[0, : size_hw[1] // 2] = sum(map(ord, path.stem)) % 200
    picture[1, :4] = 20 + np.frombuffer(zlib.crc32(path.stem.encode()).to_bytes(4, "big"), dtype=np.uint8) // 8
    if bright_xyxy is not None:
        x1, y1, x2, y2 = bright_xyxy
        picture[y1:y2, x1:x2] = 250
    if path.suffix == ".dicom":
        facts = DicomFacts(path.stem, sex="F", age=50, inverted=False, low=0, high=4095, pixel_spacing_mm=0.14)
        write_dicom(path, picture.astype(np.float32) / 255, facts)
    else:
        assert cv2.imwrite(str(path), picture)


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Row]) -> None:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def chexpert_row(path: str, *, sex: str = "Female", age: object = 60, ap_pa: str = "AP", **labels: object) -> Row:
    """One row; findings by name with underscores for spaces, the others blank."""
    view = "Lateral" if "lateral" in path else "Frontal"
    cells = {name.replace("_", " "): value for name, value in labels.items()}
    return [path, sex, age, view, ap_pa, *(cells.get(name, "") for name in CHEXPERT_HEADER[5:])]


def chexpert_folder(
    parent: Path,
    *,
    folder: str = "CheXpert-v1.0-small",
    train: Sequence[Row] = (),
    valid: Sequence[Row] = (),
    missing: str = "",
    header: Sequence[str] = CHEXPERT_HEADER,
) -> Path:
    """Three training images (a lateral among them) of two patients and one of valid, and more `train`, `valid` rows.

    `missing`: ending of the path that gets no file. Returns the release's folder; its parent serves as root too.
    """
    rows = [
        chexpert_row(f"{folder}/train/patient00001/study1/view1_frontal.jpg", No_Finding="1.0"),
        chexpert_row(f"{folder}/train/patient00002/study1/view1_frontal.jpg", Cardiomegaly="-1.0", Edema="0.0"),
        chexpert_row(f"{folder}/train/patient00002/study1/view2_lateral.jpg", ap_pa="", Cardiomegaly="-1.0"),
        *train,
    ]
    valid_rows = [
        chexpert_row(f"{folder}/valid/patient64541/study1/view1_frontal.jpg", sex="Male", Cardiomegaly="1.0"),
        *valid,
    ]
    root = parent / folder
    write_rows(root / "train.csv", header, rows)
    write_rows(root / "valid.csv", header, valid_rows)
    for row in [*rows, *valid_rows]:
        path = str(row[0])
        if "/" in path and not (missing and path.endswith(missing)):
            write_picture(parent / path)
    return root


def kaggle_folder(
    root: Path, *, rows: Sequence[Row] = (), suffix: str = ".dicom", missing: str = "", images: Sequence[str] = "abc"
) -> Path:
    """VinBigData: image a has boxes of two of three readers, b none, c a box of one reader; and more `rows`."""
    marks: list[Row] = [
        ("a", "Cardiomegaly", 3, "R8", 10, 20, 30, 40),
        ("a", "Cardiomegaly", 3, "R9", 12, 20, 30, 38),
        ("a", "No finding", 14, "R10", "", "", "", ""),
        *(("b", "No finding", 14, reader, "", "", "", "") for reader in ("R1", "R2", "R3")),
        ("c", "Nodule/Mass", 8, "R8", 1.5, 2.5, 9.5, 8.5),
        ("c", "No finding", 14, "R9", "", "", "", ""),
        ("c", "No finding", 14, "R10", "", "", "", ""),
        *rows,
    ]
    write_rows(root / "train.csv", KAGGLE_HEADER, marks)
    for name in images:
        if name != missing:
            write_picture(root / "train" / f"{name}{suffix}")
    return root


def physionet_folder(root: Path, *, marks: Sequence[Row] = (), labels: Sequence[Row] = ()) -> Path:
    """VinDr-CXR: in train image a (three readers) and b; in test image t (consensus); DICOM; more train rows."""
    train_marks: list[Row] = [
        ("a", "R8", "Cardiomegaly", 10, 20, 30, 40),
        ("a", "R9", "Cardiomegaly", 12, 20, 30, 38),
        ("a", "R10", "Other diseases", "", "", "", ""),
        ("b", "R1", "No finding", "", "", "", ""),
        *marks,
    ]
    train_labels: list[Row] = [
        ("a", "R8", 1, 0, 0, 0, 0),
        ("a", "R9", 1, 0, 1, 0, 0),
        ("a", "R10", 0, 0, 0, 0, 1),
        *(("b", reader, 0, 0, 0, 1, 0) for reader in ("R1", "R2", "R3")),
        *labels,
    ]
    notes = root / "annotations"
    corners = ("x_min", "y_min", "x_max", "y_max")
    write_rows(notes / "annotations_train.csv", ("image_id", "rad_id", "class_name", *corners), train_marks)
    write_rows(notes / "annotations_test.csv", ("image_id", "class_name", *corners), [("t", "Nodule/Mass", 0, 0, 5, 6)])
    header = ("image_id", "rad_ID", *VINDR_LABELS, "Other diseases")
    write_rows(notes / "image_labels_train.csv", header, train_labels)
    test_header = ("image_id", *VINDR_LABELS, "Other disease")
    write_rows(notes / "image_labels_test.csv", test_header, [("t", 0, 1, 0, 0, 1)])
    for path in ("train/a.dicom", "train/b.dicom", "test/t.dicom"):
        write_picture(root / path)
    return root


def nih_folder(
    root: Path, *, rows: Sequence[Row] = (), boxes: Sequence[Row] = (), lists: bool = False, missing: str = ""
) -> Path:
    """Three images of two patients in the release's numbered folders, of 40 x 60; two boxes in the 1024 frame."""
    table: list[Row] = [
        ("00000001_000.png", "Cardiomegaly|Infiltration", 0, 1, 57, "M", "PA", 2682, 2749, 0.143, 0.143),
        ("00000001_001.png", "No Finding", 1, 1, "058Y", "M", "PA", 2682, 2749, 0.143, 0.143),
        ("00000002_000.png", "Pleural_Thickening", 0, 2, 414, "F", "AP", 2500, 2048, 0.168, 0.168),
        *rows,
    ]
    marks: list[Row] = [
        ("00000001_000.png", "Infiltrate", 256, 512, 128, 64),
        ("00000002_000.png", "Atelectasis", 0, 0, 1024, 1024),
        *boxes,
    ]
    write_rows(root / "Data_Entry_2017_v2020.csv", NIH_HEADER, table)
    write_rows(root / "BBox_List_2017.csv", NIH_BOX_HEADER, marks)
    for number, row in enumerate(table):
        if row[0] != missing:
            write_picture(root / f"images_{number + 1:03d}" / "images" / str(row[0]))
    if lists:
        (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n", encoding="utf-8")
        (root / "test_list.txt").write_text("00000002_000.png", encoding="utf-8")
    return root


def voc_xml(objects: Sequence[Row], *, size_wh: tuple[int, int]) -> str:
    """Pascal VOC with objects (class, xmin, ymin, xmax, ymax) in a picture of that size."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    parts = []
    for name, *corners in objects:
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
        parts.append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
    size = f"<size><width>{size_wh[0]}</width><height>{size_wh[1]}</height></size>"
    return f"<annotation>{size}{''.join(parts)}</annotation>"


def tbx11k_folder(
    root: Path,
    *,
    objects: Sequence[Row] = (("ActiveTuberculosis", 20, 60, 80, 240),),
    size_hw: tuple[int, int] = SIZE_HW,
    xml: str | None = None,
    missing: bool = False,
) -> Path:
    """One image with tuberculosis, tb0001 (`objects` in a 240 wide, 400 high original), one without xml objects, one
    healthy. Lists say .png, files are .jpg. `xml` replaces tb0001's annotation; `missing` leaves out its file.
    """
    for folder in ("lists", "annotations/xml"):
        (root / folder).mkdir(parents=True)
    (root / "lists/TBX11K_train.txt").write_text("tb/tb0001.png\ntb/tb0002.png\n", encoding="utf-8")
    (root / "lists/TBX11K_val.txt").write_text("health/h0001.png\n", encoding="utf-8")
    text = voc_xml(objects, size_wh=(240, 400)) if xml is None else xml
    (root / "annotations/xml/tb0001.xml").write_text(text, encoding="utf-8")
    (root / "annotations/xml/tb0002.xml").write_text(voc_xml([], size_wh=(240, 400)), encoding="utf-8")
    names = ["tb/tb0002", "health/h0001"] if missing else ["tb/tb0001", "tb/tb0002", "health/h0001"]
    for name in names:
        write_picture(root / f"imgs/{name}.jpg", size_hw)
    return root


def kermany_folder(root: Path, *, groups: bool = False, extra: Sequence[str] = (), twin: bool = False) -> Path:
    """Five images of four patients; person1 stands in train and test. `twin`: val's file is a copy of train's."""
    paths = [
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "val/NORMAL/NORMAL2-IM-0383-0001.jpeg",
        "test/NORMAL/IM-0001-0001-0002.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
        *extra,
    ]
    for path in paths:
        write_picture(root / path)
    if twin:
        (root / paths[2]).write_bytes((root / paths[0]).read_bytes())
    if groups:
        rows = [(*path.split("/"), f"group{number}", "") for number, path in enumerate(paths)]
        write_rows(root / "groups.csv", ("split", "class", "file", "group_id", "labels"), rows)
    return root


def csv_folder(root: Path, *, rows: Sequence[Row] = (), boxes: Sequence[Row] = ()) -> Path:
    """images.csv (file, pid, projection, sex, years, effusion, heart) of two images, boxes.csv of one box."""
    table: list[Row] = [
        ("p1/a.png", "p1", "PA", "f", 51, 1, ""),
        ("p2/b.png", "p2", "lateral", "Male", "", 0, -1),
        *rows,
    ]
    write_rows(root / "images.csv", ("file", "pid", "projection", "sex", "years", "effusion", "heart"), table)
    marks = [("p1/a.png", "effusion", 5, 6, 15, 26), *boxes]
    write_rows(root / "boxes.csv", ("file", "label", "left", "top", "right", "bottom"), marks)
    for name in ("p1/a.png", "p2/b.png"):
        write_picture(root / name)
    return root


def csv_settings(root: Path, **changes: object) -> Mapping[str, object]:
    """Settings that read `csv_folder`."""
    columns = {"image": "file", "patient": "pid", "view": "projection", "sex": "sex", "age": "years"}
    corners = {"x1": "left", "y1": "top", "x2": "right", "y2": "bottom"}
    return {
        "root": root,
        "table": "images.csv",
        "columns": columns,
        "findings": {"effusion": "Pleural Effusion", "heart": "Cardiomegaly"},
        "boxes": {"table": "boxes.csv", "image": "file", "finding": "label", **corners},
        **changes,
    }
