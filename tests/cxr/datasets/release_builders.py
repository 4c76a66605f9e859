"""Tiny releases in the real layouts, beyond those of `tests.builders`. Pictures are 40 high and 60 wide."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxr.masks import mask_of_pixels, mask_to_coco
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


MIMIC_FINDINGS = ("No Finding", "Cardiomegaly", "Edema")


def mimic_folder(
    root: Path,
    *,
    images: Sequence[Row] = (),
    splits: Sequence[Row] = (),
    labels: Sequence[Row] = (),
    packed: bool = False,
) -> Path:
    """Patient 10000032 has study 50414267 with a PA and a lateral image, patient 10000764 a study without labels."""
    metadata = [
        ("d1", 10000032, 50414267, "PA"),
        ("d2", 10000032, 50414267, "LATERAL"),
        ("d3", 10000764, 57375967, "AP"),
        *images,
    ]
    rows = [("d1", 50414267, 10000032, "train"), ("d2", 50414267, 10000032, "train")]
    of_splits = [*rows, ("d3", 57375967, 10000764, "validate"), *splits]
    of_labels = [(10000032, 50414267, "", "1.0", "-1.0"), *labels]
    write_rows(_mimic(root, "metadata"), ("dicom_id", "subject_id", "study_id", "ViewPosition"), metadata)
    write_rows(_mimic(root, "split"), ("dicom_id", "study_id", "subject_id", "split"), of_splits)
    write_rows(_mimic(root, "chexpert"), ("subject_id", "study_id", *MIMIC_FINDINGS), of_labels)
    if packed:
        for name in ("metadata", "split", "chexpert"):
            path = _mimic(root, name)
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    for dicom_id, patient, study, _ in metadata:
        write_picture(root / "files" / f"p{str(patient)[:2]}" / f"p{patient}" / f"s{study}" / f"{dicom_id}.jpg")
    return root


def _mimic(root: Path, name: str) -> Path:
    return root / f"mimic-cxr-2.0.0-{name}.csv"


PADCHEST_HEADER = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
    "Labels",
)  # fmt: skip


def padchest_folder(root: Path, *, rows: Sequence[Row] = ()) -> Path:
    """Three images of two patients in numbered folders: two frontal, one lateral; and more `rows`."""
    table = [
        ("a.png", 0, 20140915, "s1", "p1", 1950, "F", "PA", "['cardiomegaly', ' pleural effusion', 'scoliosis']"),
        ("b.png", 12, 20140915, "s1", "p1", 1950, "F", "L", "['cardiomegaly']"),
        ("c.png", 12, 20100101, "s2", "p2", "", "M", "AP_horizontal", "['normal']"),
        *rows,
    ]
    write_rows(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST_HEADER, table)
    for name, folder, *_ in table:
        write_picture(root / str(folder) / str(name))
    return root


def chexlocalize_folder(
    root: Path, *, masks: Mapping[str, Mapping[str, object]] | None = None, first_release: bool = False
) -> Path:
    """Two frontal images and a lateral of the validation part; the first has a heart in two parts, in 80 x 120."""
    heart = np.zeros((80, 120), dtype=np.uint8)
    heart[10:30, 20:60] = 1
    heart[60:70, 100:120] = 1
    nothing = mask_to_coco(mask_of_pixels(np.zeros((80, 120))))
    first = {"Cardiomegaly": mask_to_coco(mask_of_pixels(heart)), "Airspace Opacity": nothing}
    table, folder = ("valid.csv", "CheXpert-v1.0") if first_release else ("val_labels.csv", "CheXpert")
    part = "valid" if first_release else "val"
    names = [
        "patient64541/study1/view1_frontal",
        "patient64542/study1/view1_frontal",
        "patient64542/study1/view2_lateral",
    ]
    rows = [
        (f"CheXpert-v1.0/valid/{name}.jpg", *labels) for name, labels in zip(names, ("10", "01", "01"), strict=True)
    ]
    write_rows(root / folder / table, ("Path", "Cardiomegaly", "Lung Opacity"), rows)
    for name in names:
        write_picture(root / folder / part / f"{name}.jpg")
    released = {"patient64541_study1_view1_frontal": first} if masks is None else masks
    path = root / "CheXlocalize" / "gt_segmentations_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(released), encoding="utf-8")
    return root


def chestxdet_folder(root: Path, *, det10: bool = False, entries: Sequence[object] = ()) -> Path:
    """Train: an image with an effusion (and its polygon) and one without boxes; test: one with a nodule."""
    train = {"file_name": "36204.png", "syms": ["Effusion"], "boxes": [[256, 512, 512, 1024]]}
    test = {"file_name": "36300.png", "syms": ["Nodule"], "boxes": [[0, 0, 128, 128]]}
    normal = {"file_name": "36205.png", "syms": [], "boxes": []}
    if not det10:
        train |= {"polygons": [[[256, 512], [512, 512], [512, 1024], [256, 1024]]]}
        test |= {"polygons": [[[0, 0], [128, 0], [128, 128], [0, 128]]]}
        normal |= {"polygons": []}
    start = "" if det10 else "ChestX_Det_"
    root.mkdir(exist_ok=True)
    (root / f"{start}train.json").write_text(json.dumps([train, normal, *entries]), encoding="utf-8")
    (root / f"{start}test.json").write_text(json.dumps([test]), encoding="utf-8")
    for name in ("train_data/train/36204", "train_data/train/36205", "test_data/test/36300"):
        write_picture(root / f"{name}.png")
    return root


def openi_xml(report: int, terms: Sequence[str], images: Sequence[str]) -> str:
    """A report with its MeSH terms and the ids of its images."""
    majors = "".join(f"<major>{term}</major>" for term in terms)
    parents = "".join(f'<parentImage id="{image}"><caption>PA and lateral</caption></parentImage>' for image in images)
    return f'<eCitation><uId id="CXR{report}"/><MeSH>{majors}<automatic>heart</automatic></MeSH>{parents}</eCitation>'


def openi_folder(root: Path, *, reports: Mapping[str, str] | None = None) -> Path:
    """Report 1 is normal, 2 has a large heart and a degenerative spine; a frontal and a lateral image each."""
    texts = {
        "1": openi_xml(1, ["normal"], ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]),
        "2": openi_xml(2, ["Cardiomegaly/mild", "Spine/degenerative"], ["CXR2_IM-0652-1001", "CXR2_IM-0652-2001"]),
        **(reports or {}),
    }
    folder = root / "NLMCXR_reports" / "ecgen-radiology"
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
    for name in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR2_IM-0652-2001"):
        write_picture(root / "NLMCXR_png" / f"{name}.png")
    views = [
        ("1_IM-0001-4001.dcm.png", "Frontal"),
        ("1_IM-0001-3001.dcm.png", "Lateral"),
        ("2_IM-0652-1001.dcm.png", "Frontal"),
        ("2_IM-0652-2001.dcm.png", "Lateral"),
    ]
    write_rows(root / "projections.csv", ("filename", "projection"), views)
    return root


def spr_folder(root: Path, *, genders: Sequence[Row] = (), ages: bool = True) -> Path:
    """Two training images, 0 male and 1 female, and one for testing."""
    write_rows(root / "train_gender.csv", ("imageId", "gender"), [("0", "1"), ("1", "0"), *genders])
    if ages:
        write_rows(root / "train_age.csv", ("imageId", "age"), [("1", "41.0"), ("0", "77.0")])
    for name in ("train/000000", "train/000001", "test/000000"):
        write_picture(root / "kaggle" / "kaggle" / f"{name}.png")
    return root
