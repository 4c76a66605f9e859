"""TBX11K: radiographs of tuberculosis, healthy and otherwise sick adults, with boxes of active and obsolete lesions.

Source: Liu et al. 2020 (CVPR), mmcheng.net/tb. CC BY-NC-SA as torchxrayvision states it.

As released: ``imgs/{tb,health,sick,...}/*.png`` (512 x 512), ``annotations/xml/*.xml`` (Pascal VOC, of images with
lesions) and ``lists/TBX11K_train.txt``, ``TBX11K_val.txt`` with lines ``tb/tb0005.png``.

Quirks, and how this module handles them:

- Boxes count in the ORIGINAL image's size, given in the xml; files are squashed to 512 x 512. Boxes are scaled to
  the file, x and y each by its own factor.
- Lists say ``.png`` while copies may hold ``.jpg``: files are found by their stem.
- An xml without objects occurs: of an image of folder ``tb`` it is not known what lies where, so its labels are NaN
  (not mentioned). Images of other folders have no xml, no lesion, and labels 0.
- Patients are unknown: `patient_id` is "", so splits go by image. In the hemithorax form the two halves of an image
  share the image's name as `patient_id`, so they never part.

Two forms. ``released``: labels Active, Obsolete (and, where the xml has it, unspecified) tuberculosis. Where every
image has tuberculosis, these labels hardly say *where*; so ``hemithorax``: each half of the picture is an image,
``tb0005:L`` (region "left", the patient's right lung) and ``tb0005:R`` (region "right_mirrored"), with one finding
Tuberculosis: 1 where a lesion lies in the half, as a report that names the side would say. Boxes are cut to the
half and mirrored with it; slivers (less than `min_share` of a box's area in the half) are dropped and counted.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from pydantic import Field

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import images_by_stem, require_folder
from cxr.datasets.hemithorax import to_hemithoraces
from cxr.datasets.text_cells import known_names
from cxr.labels import FINDINGS, TBX11K_NAMES
from cxr.tables import Dataset, DataSettings, Problems, box_table, image_table

LISTS = {"TBX11K_train.txt": "train", "TBX11K_val.txt": "valid"}

TUBERCULOSIS_FOLDER = "tb"

HALF_FINDING = "Tuberculosis"

ALWAYS = ("ActiveTuberculosis", "ObsoletePulmonaryTuberculosis")
"""Classes that get a label column also when no xml has them."""

BAD_XML = "unreadable or missing xml"
NO_OBJECT = "image with tuberculosis without a box, so neither half's label is known"

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Tbx11kData(DataSettings):
    """Where TBX11K lies and in which form to read it."""

    renamed: ClassVar[Mapping[str, str]] = {"form": "layout"}

    dataset: Literal["tbx11k"] = "tbx11k"
    layout: Literal["released", "hemithorax"] = "released"
    """See the module's docstring."""

    min_share: float = Field(default=0.2, gt=0, le=0.5)
    """Hemithorax form: least share of a box's area in a half for the box to count there."""

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_tbx11k(self)


def read_tbx11k(settings: Tbx11kData) -> Dataset:
    """Read the lists and the xml files; the sizes of images with boxes from their headers."""
    require_folder(settings.root, source="tbx11k")
    problems = Problems(settings.on_problem, source="tbx11k")
    table = _read_lists(settings.root)
    boxes, unreadable = _read_annotations(settings.root, table, problems)
    names = known_names(boxes["finding"], TBX11K_NAMES, problems)
    labels = _labels(table, boxes, names)
    boxes = boxes[boxes["finding"].isin(list(names))]
    boxes = box_table(boxes.assign(finding=boxes["finding"].map(names)))
    images = image_table(**{name: table[name] for name in ("image_id", "path", "split")}, view="frontal")
    raw = RawTables(images, labels, boxes).keep(~table["image_id"].isin(unreadable))
    dataset = assemble(raw, settings, problems, name="tbx11k")
    if settings.layout == "released":
        return dataset
    sideless = dataset.labels.isna().all(axis=1).to_numpy()
    return to_hemithoraces(
        dataset, sideless=sideless, reason=NO_OBJECT, finding=HALF_FINDING, min_share=settings.min_share
    )


def _read_lists(root: Path) -> pd.DataFrame:
    """image_id, folder, path, split of each listed image."""
    lists = [name for name in LISTS if (root / "lists" / name).is_file()]
    if not lists:
        raise UserError(f"tbx11k: no {' or '.join(LISTS)} in {root / 'lists'}; correct `root`")
    files_of = cache(images_by_stem)
    rows = []
    for list_name in lists:
        for line in (root / "lists" / list_name).read_text(encoding="utf-8").split():
            folder, listed = Path(line).parent.as_posix(), Path(line)
            name = files_of(root / "imgs" / folder).get(listed.stem, listed.name)
            path = f"imgs/{folder}/{name}"
            rows.append((listed.stem, folder, path, LISTS[list_name]))
    return pd.DataFrame(rows, columns=["image_id", "folder", "path", "split"])


def _read_annotations(root: Path, table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, list[str]]:
    """Boxes with the frame they count in and the release's class names, and images whose xml failed."""
    rows: list[tuple[str, str, float, float, float, float, float, float]] = []
    failed = []
    for image_id, folder in zip(table["image_id"], table["folder"], strict=True):
        path = root / "annotations" / "xml" / f"{image_id}.xml"
        if folder != TUBERCULOSIS_FOLDER and not path.is_file():
            continue
        try:
            rows += [(image_id, *fields) for fields in _objects(path)]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            problems.add(f"{path.name} ({error})", BAD_XML)
            failed.append(image_id)
    columns = ["image_id", "finding", "x1", "y1", "x2", "y2", "frame_h", "frame_w"]
    return pd.DataFrame(rows, columns=columns), failed


def _objects(path: Path) -> list[tuple[str, float, float, float, float, float, float]]:
    """Class, corners, and height and width of the frame of each object. ValueError on a malformed file."""
    annotation = ElementTree.parse(path).getroot()
    height, width = (_number(annotation, f"size/{side}") for side in ("height", "width"))
    if not (height > 0 and width > 0):
        raise ValueError(f"size of height {height:g}, width {width:g}")
    objects = []
    for item in annotation.iter("object"):
        x1, y1, x2, y2 = (_number(item, f"bndbox/{corner}") for corner in CORNERS)
        objects.append((item.findtext("name", "").strip(), x1, y1, x2, y2, height, width))
    return objects


def _number(element: ElementTree.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)


def _labels(table: pd.DataFrame, boxes: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """1 where a box of the finding lies in the image, else 0; NaN for tuberculosis without any box."""
    wanted = {TBX11K_NAMES[name] for name in (*ALWAYS, *names) if name in TBX11K_NAMES}
    ids = table["image_id"]
    findings = boxes["finding"].map(names)
    labels = pd.DataFrame(
        {
            finding: ids.isin(boxes.loc[findings == finding, "image_id"]).astype(np.float64)
            for finding in FINDINGS
            if finding in wanted
        }
    )
    unknown = (table["folder"] == TUBERCULOSIS_FOLDER) & ~ids.isin(boxes["image_id"])
    labels.loc[unknown] = np.nan
    return labels
