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
- Neither the reports nor the DICOM headers tell the view: the headers' View Position says PA for laterals too.
  `projections`, the table of a well-known copy (filename, projection: Frontal or Lateral), does; `view: frontal` needs
  it. Its file names (``1_IM-0001-4001.dcm.png``) have the report's number and the end of the image's id.
- `metadata`, a table of DICOM headers (imageid, Patient's Sex, Patient's Birth Date, Study Date), tells sex and age.
"""

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.inside_root import inside
from cxr.datasets.text_cells import ages_between, listed_labels, look_up, numbers, sexes, with_a_finding
from cxr.datasets.text_files import read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.input_files import read_regular
from cxr.labels.release_names import OPENI_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

FOLDER = "ecgen-radiology"
NOT_READ = frozenset({"no indexing", "technical quality of image unsatisfactory"})
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
        images = _images(table, self, problems)
        wanted = in_view(images["view"], self.view, problems)
        raw = RawTables(images, labels, empty_boxes()).keep(wanted & ~unread.to_numpy())
        return assemble(raw, self, problems, name="openi")


def _read_reports(root: Path, problems: Problems) -> pd.DataFrame:
    """A row per image: image_id, report (its number), terms (first parts in lower case)."""
    folders = [folder for pattern in (FOLDER, f"*/{FOLDER}", f"*/*/{FOLDER}") for folder in sorted(root.glob(pattern))]
    if not folders:
        raise UserError(f"openi: no folder {FOLDER} in {root}; correct `root`")
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


def _images(table: pd.DataFrame, settings: OpeniData, problems: Problems) -> pd.DataFrame:
    found = find_images(settings.root)
    ids = table["image_id"]
    return image_table(
        image_id=ids,
        path=ids.map(lambda name: found.get(name, f"{name}.png")),
        patient_id=table["report"],
        study_id=table["report"],
        view=_views(ids, settings, problems),
        **_facts(ids, settings, problems),
    )


def _views(ids: "pd.Series[str]", settings: OpeniData, problems: Problems) -> "pd.Series[str]":
    if settings.projections is None:
        return pd.Series("", index=ids.index)
    path = inside(settings.root, settings.projections, key="data.projections")
    table = read_text_table(path, required=["filename", "projection"])
    bad = ~table["projection"].isin(list(PROJECTIONS))
    problems.add_all((table["filename"] + ", projection " + table["projection"])[bad], BAD_PROJECTION)
    view = dict(zip(_keys(table["filename"]), look_up(table["projection"], PROJECTIONS), strict=True))
    return look_up(_keys(ids), view)


def _keys(names: "pd.Series[str]") -> "pd.Series[str]":
    """Number of the report and end of the image's id; the name itself where it has another form."""
    parts = names.str.extract(ID_PATTERN)
    return (parts[0] + "_" + parts[1]).fillna(names)


def _facts(ids: "pd.Series[str]", settings: OpeniData, problems: Problems) -> dict[str, pd.Series]:
    """Sex and age from the table of DICOM headers; nothing without it."""
    if settings.metadata is None:
        return {}
    columns = ["imageid", "Patient's Sex", "Patient's Birth Date", "Study Date"]
    path = inside(settings.root, settings.metadata, key="data.metadata")
    table = read_text_table(path, required=columns)[columns].drop_duplicates("imageid").set_index("imageid")
    own = table.reindex(ids).fillna("").set_axis(ids.index)
    born, taken = (numbers(own[column]) for column in columns[2:])  # as 20110328
    return {"sex": sexes(own["Patient's Sex"], problems), "age": ages_between(born, taken, problems, per_year=10_000)}
