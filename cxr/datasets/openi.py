"""Open-i (Indiana University): 7,470 radiographs, frontal and lateral, with 3,955 reports indexed by hand.

Source: Demner-Fushman et al. 2016, doi:10.1093/jamia/ocv080; openi.nlm.nih.gov. Open access with acknowledgement; see
the terms there.

As released: ``ecgen-radiology/*.xml``, a report each, with the terms of its MeSH index (``major``) and the ids of its
images (``parentImage``), and ``<id>.png``. Reports are looked for in `root` and two levels below it, images by their
stem anywhere under `root`.

Quirks of the release, and what this module does about them:

- A term such as ``Opacity/lung/base/left`` counts by its first part, wherever it places it. A finding of ours that is
  not indexed is negative (0). Terms without a finding of ours (`cxr.labels.release_names`) are counted by name.
- Reports with nothing but "no indexing" or "technical quality of image unsatisfactory" are excluded, named and counted.
- A report is the only one of its patient: the number of the report is `patient_id` and `study_id`.
- Neither the reports nor the DICOM headers name the view: the headers' View Position says PA for laterals too.
  `projections`, the table of a well-known copy (filename, projection: Frontal or Lateral), does; `view: frontal` needs
  it. Its file names (``1_IM-0001-4001.dcm.png``) have the report's number and the end of the image's id.
- `metadata`, a table of DICOM headers (imageid, Patient's Sex, Patient's Birth Date, Study Date), gives sex and age.
"""

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.inside_root import inside
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.text_cells import Mask, ages_between, listed_labels, look_up, numbers, sexes, with_a_finding
from cxr.datasets.text_files import read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.input_files import read_regular
from cxr.labels.release_names import OPENI_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

FOLDER = "ecgen-radiology"
NOT_READ = frozenset({"no indexing", "technical quality of image unsatisfactory"})
FACTS = ["Patient's Sex", "Patient's Birth Date", "Study Date"]
"""Columns of the table of DICOM headers; dates are numbers such as 20110328."""
PROJECTIONS = {"Frontal": "frontal", "Lateral": "lateral"}
ID_PATTERN = r"^(?:CXR)?(\d+)_.*?(IM-[\d-]+?)(?:\.dcm)?(?:\.png)?$"
"""Number of the report and end of the image's id, of an id and of a file name."""

BAD_XML = "unreadable report"
UNREAD = "image whose report is not indexed"
BAD_PROJECTION = "projection other than Frontal and Lateral"


class OpeniData(DataSettings):
    """The folder of Open-i's collection, and which images to load."""

    dataset: Literal["openi"] = "openi"
    view: WantedView = "frontal"
    """frontal: needs `projections`."""
    projections: Path | None = None
    """Table of views, relative to `root` and below it, or absolute."""
    metadata: Path | None = None
    """Table of DICOM headers, likewise."""

    def read(self) -> Dataset:
        """Load the reports and, if given, the tables; find the images."""
        require_folder(self.root, source="openi")
        if self.view == "frontal" and self.projections is None:
            raise UserError(
                "openi: `view: frontal` needs `projections`, the table of views; give it, or set `view: all`"
            )
        problems = Problems(self.on_problem, source="openi")
        table = _read_reports(self.root, problems)
        unread = table["terms"].map(lambda terms: not set(terms) - NOT_READ)
        for image_id in table.loc[unread, "image_id"]:
            problems.exclude(image_id, UNREAD)
        listed = with_a_finding(table["terms"], OPENI_NAMES, problems)
        labels, _ = listed_labels(listed, OPENI_NAMES, problems, columns=OPENI_NAMES)
        images, sound = _images(table, self, problems)
        wanted = in_view(images["view"], self.view, problems) & sound & ~unread.to_numpy()
        return assemble(RawTables(images, labels, empty_boxes()), self, problems, name="openi", wanted=wanted)


def _read_reports(root: Path, problems: Problems) -> pd.DataFrame:
    """A row per image: image_id, report (its number), terms (first parts in lower case)."""
    folders = [folder for pattern in (FOLDER, f"*/{FOLDER}", f"*/*/{FOLDER}") for folder in sorted(root.glob(pattern))]
    if not folders:
        raise UserError(f"openi: no folder {FOLDER} in {root}; correct `root`")
    if len(folders) > 1:
        raise UserError(f"openi: {folders[0]} and {folders[1]} both hold reports; set `root` to the folder of one")
    rows: list[tuple[str, str, list[str]]] = []
    for path in sorted(folders[0].glob("*.xml")):
        try:
            rows += _images_of(path)
        except (UserError, ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: encoding
            problems.add(f"{path.name} ({error})", BAD_XML)
    return pd.DataFrame(rows, columns=["image_id", "report", "terms"])


def _images_of(path: Path) -> list[tuple[str, str, list[str]]]:
    report = ElementTree.fromstring(read_regular(path, what="data"))
    number = report.find("uId")
    if number is None or not number.get("id"):
        raise ValueError("no uId")
    texts = [(major.text or "").strip() for major in report.iter("major")]
    terms = [text.split("/")[0].strip().lower() for text in texts if text]
    ids = [image.get("id", "") for image in report.iter("parentImage")]
    return [(image_id, str(number.get("id")).removeprefix("CXR"), terms) for image_id in ids if image_id]


def _images(table: pd.DataFrame, settings: OpeniData, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    """The image table, and an (N,) mask of the images of which the tables say one thing."""
    found = find_images(settings.root)
    ids = table["image_id"]
    views, two_views = _views(ids, settings, problems)
    facts, two_facts = _facts(ids, settings, problems)
    images = image_table(
        image_id=ids,
        path=ids.map(lambda name: found.get(name, f"{name}.png")),
        patient_id=table["report"],
        study_id=table["report"],
        view=views,
        **facts,
    )
    return images, ~(two_views | two_facts)


def _views(ids: "pd.Series[str]", settings: OpeniData, problems: Problems) -> "tuple[pd.Series[str], Mask]":
    """(N,) the views, "" without their table; and an (N,) mask of the images with two different ones."""
    if settings.projections is None:
        return pd.Series("", index=ids.index), np.zeros(len(ids), dtype=bool)
    path = inside(settings.root, settings.projections, key="data.projections")
    table = read_text_table(path, required=["filename", "projection"])
    table["projection"] = table["projection"].str.strip()
    bad = ~table["projection"].isin(list(PROJECTIONS))
    problems.add_all((table["filename"] + ", projection " + table["projection"])[bad], BAD_PROJECTION)
    view_of = keyed_rows(table[["projection"]], _keys(table["filename"]), problems, where=row_names(path, table))
    return look_up(view_of.of(_keys(ids), "projection"), PROJECTIONS), view_of.contradicts(_keys(ids))


def _keys(names: "pd.Series[str]") -> "pd.Series[str]":
    """Number of the report and end of the image's id; the name itself where it has another form."""
    parts = names.str.extract(ID_PATTERN)
    return (parts[0] + "_" + parts[1]).fillna(names)


def _facts(ids: "pd.Series[str]", settings: OpeniData, problems: Problems) -> tuple[dict[str, pd.Series], Mask]:
    """Sex and age from the table of DICOM headers, nothing without it; and an (N,) mask of the images with two rows
    that differ.
    """
    if settings.metadata is None:
        return {}, np.zeros(len(ids), dtype=bool)
    path = inside(settings.root, settings.metadata, key="data.metadata")
    table = read_text_table(path, required=["imageid", *FACTS])
    facts = keyed_rows(table[FACTS], table["imageid"], problems, where=row_names(path, table))
    sex, born, taken = (facts.of(ids, column) for column in FACTS)
    age = ages_between(numbers(born), numbers(taken), problems, per_year=10_000)
    return {"sex": sexes(sex, problems), "age": age}, facts.contradicts(ids)
