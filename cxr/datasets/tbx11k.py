"""TBX11K: radiographs of tuberculosis, healthy and otherwise sick adults, with boxes of active and obsolete lesions.

Source: Liu et al. 2020 (CVPR), mmcheng.net/tb. CC BY-NC-SA as torchxrayvision states it.

As released: ``imgs/{tb,health,sick,...}/*.png`` (512 x 512), ``annotations/xml/*.xml`` (Pascal VOC, for images with
lesions), and ``lists/TBX11K_train.txt`` and ``lists/TBX11K_val.txt`` with lines such as ``tb/tb0005.png``.

Quirks of the release, and what this module does about them:

- Boxes are in pixels of the original image, whose size is in the xml, while files are squashed to 512 x 512. Boxes are
  scaled to the file in x and y.
- The lists say ``.png``, but copies may contain ``.jpg``: files are found by their stem.
- An image in the folder ``tb`` may have no box. Its lesions are unknown, so its labels are NaN. Images in the other
  folders have no xml and no lesion; their labels are 0.
- Patients are unknown: `patient_id` is "", so images are split one by one.

There are two layouts. ``released`` has the labels Active, Obsolete and, if an xml contains it, other Tuberculosis.
In ``hemithorax`` each half of an image is an image, as if a report had named the side: ``tb0005:L`` (region "left", the
patient's right lung) and ``tb0005:R`` (region "right_mirrored"), with the label Tuberculosis. Boxes are cut to the half
and mirrored with it. The halves have the image's name as `patient_id`, so they are never in different splits.
"""

import math
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
from cxr.datasets.text_files import read_names
from cxr.input_files import read_regular
from cxr.labels import FINDINGS, TBX11K_NAMES
from cxr.tables import Dataset, DataSettings, Problems, box_table, image_table

LISTS = {"TBX11K_train.txt": "train", "TBX11K_val.txt": "valid"}
TUBERCULOSIS_FOLDER = "tb"
HALF_FINDING = "Tuberculosis"

ALWAYS = ("ActiveTuberculosis", "ObsoletePulmonaryTuberculosis")
"""Classes that have a label column even if no xml contains them."""

BAD_XML = "unreadable or missing xml"
NO_OBJECT = "image with tuberculosis without a box, so the labels of its halves are unknown"


class Tbx11kData(DataSettings):
    """The folder of TBX11K and the layout in which to load it."""

    renamed: ClassVar[Mapping[str, str]] = {"form": "layout"}

    dataset: Literal["tbx11k"] = "tbx11k"
    layout: Literal["released", "hemithorax"] = "released"
    """released: images as they are. hemithorax: each half is an image. See the docstring of this module."""
    min_share: float = Field(default=0.2, gt=0, le=0.5)
    """hemithorax: a box belongs to a half if at least this share of its area lies in it."""

    def read(self) -> Dataset:
        """Load the lists and the xml files; the sizes of images with boxes come from their headers."""
        require_folder(self.root, source="tbx11k")
        problems = Problems(self.on_problem, source="tbx11k")
        table = _read_lists(self.root)
        boxes, unreadable = _read_annotations(self.root, table, problems)
        names = known_names(boxes["finding"], TBX11K_NAMES, problems)
        labels = _labels(table, boxes, names)
        boxes = boxes[boxes["finding"].isin(list(names))]
        boxes = box_table(boxes.assign(finding=boxes["finding"].map(names)))
        images = image_table(**{name: table[name] for name in ("image_id", "path", "split")}, view="frontal")
        raw = RawTables(images, labels, boxes).keep(~table["image_id"].isin(unreadable))
        dataset = assemble(raw, self, problems, name="tbx11k")
        if self.layout == "released":
            return dataset
        sideless = dataset.labels.isna().all(axis=1).to_numpy()
        return to_hemithoraces(
            dataset, sideless=sideless, reason=NO_OBJECT, finding=HALF_FINDING, min_share=self.min_share
        )


def _read_lists(root: Path) -> pd.DataFrame:
    """All listed images: columns image_id, folder, path, split."""
    lists = [name for name in LISTS if (root / "lists" / name).is_file()]
    if not lists:
        raise UserError(f"tbx11k: no {' or '.join(LISTS)} in {root / 'lists'}; correct `root`")
    files_of = cache(images_by_stem)
    rows = []
    for list_name in lists:
        for line in read_names(root / "lists" / list_name):
            folder, listed = Path(line).parent.as_posix(), Path(line)
            name = files_of(root / "imgs" / folder).get(listed.stem, listed.name)
            rows.append((listed.stem, folder, f"imgs/{folder}/{name}", LISTS[list_name]))
    return pd.DataFrame(rows, columns=["image_id", "folder", "path", "split"])


def _read_annotations(root: Path, table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, list[str]]:
    """Boxes with the release's class names and the size of the original image, and the images with an invalid xml."""
    rows: list[tuple[object, ...]] = []
    failed = []
    listed = table.drop_duplicates("image_id")
    for image_id, folder in zip(listed["image_id"], listed["folder"], strict=True):
        path = root / "annotations" / "xml" / f"{image_id}.xml"
        if folder != TUBERCULOSIS_FOLDER and not path.is_file():
            continue
        try:
            rows += [(image_id, *fields) for fields in _objects(path)]
        except (UserError, ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: encoding
            problems.add(f"{path.name} ({error})", BAD_XML)
            failed.append(image_id)
    columns = ["image_id", "finding", "x1", "y1", "x2", "y2", "frame_h", "frame_w"]
    return pd.DataFrame(rows, columns=columns), failed


def _objects(path: Path) -> list[tuple[str, float, float, float, float, float, float]]:
    """Class, corners, and height and width of the original image for each object. ValueError for an invalid file."""
    annotation = ElementTree.fromstring(read_regular(path, what="data"))
    height, width = (_number(annotation, f"size/{side}") for side in ("height", "width"))
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"size of height {height:g}, width {width:g}")
    objects = []
    for item in annotation.iter("object"):
        x1, y1, x2, y2 = (_number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax"))
        objects.append((item.findtext("name", "").strip(), x1, y1, x2, y2, height, width))
    return objects


def _number(element: ElementTree.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)


def _labels(table: pd.DataFrame, boxes: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """1 if the image has a box of the finding, else 0; NaN for an image with tuberculosis but without any box."""
    wanted = {TBX11K_NAMES[name] for name in (*ALWAYS, *names) if name in TBX11K_NAMES}
    ids = table["image_id"]
    findings = boxes["finding"].map(names)
    present = [finding for finding in FINDINGS if finding in wanted]
    labels = pd.DataFrame({name: ids.isin(boxes.loc[findings == name, "image_id"]).astype(float) for name in present})
    unknown = (table["folder"] == TUBERCULOSIS_FOLDER) & ~ids.isin(boxes["image_id"])
    labels.loc[unknown] = np.nan
    return labels
