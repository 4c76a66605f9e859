"""Tiny releases in the real layouts, beyond those of `tests.builders`. Pictures are 40 high and 60 wide."""

from collections.abc import Sequence
from pathlib import Path

from tests.builders import Row, write_picture, write_rows

RSNA_HEADER = ("patientId", "x", "y", "width", "height", "Target")


def rsna_folder(root: Path, *, rows: Sequence[Row] = (), classes: bool = True, images: Sequence[str] = "abc") -> Path:
    """Image a has two boxes, b is normal, c is neither; the boxes are in the 1024 x 1024 frame; and more `rows`."""
    marks: list[Row] = [
        ("a", 256.0, 512.0, 128.0, 64.0, 1),
        ("a", 512.0, 0.0, 512.0, 1024.0, 1),
        ("b", "", "", "", "", 0),
        ("c", "", "", "", "", 0),
        *rows,
    ]
    write_rows(root / "stage_2_train_labels.csv", RSNA_HEADER, marks)
    if classes:
        names = {"a": "Lung Opacity", "b": "Normal", "c": "No Lung Opacity / Not Normal"}
        write_rows(
            root / "stage_2_detailed_class_info.csv",
            ("patientId", "class"),
            [(row[0], names[str(row[0])]) for row in marks],
        )
    for name in images:
        write_picture(root / "stage_2_train_images" / f"{name}.png")
    return root


def siim_folder(root: Path, *, rows: Sequence[Row] = ()) -> Path:
    """Image 1.2.3 has two masks in the 1024 x 1024 frame (a column each), 1.2.4 none; and more `rows`.

    The first mask is rows 512 to 767 of the columns 0 to 511, the second rows 0 to 255 of the columns 512 and 513.
    """
    columns = " ".join(["512 256", *["768 256"] * 511])
    masks = [("1.2.3", columns), ("1.2.3", f"{512 * 1024} 256 768 256"), ("1.2.4", " -1"), *rows]
    write_rows(root / "train-rle.csv", ("ImageId", " EncodedPixels"), masks)
    for number, name in enumerate(dict.fromkeys(str(row[0]) for row in masks)):
        write_picture(root / "dicom-images-train" / f"study{number}" / f"series{number}" / f"{name}.png")
    return root
