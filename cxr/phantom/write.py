"""Writes phantom cases in the layouts of CheXpert and VinDr-CXR (PhysioNet).

Every case depends on (seed, part, index) alone, so the files do not depend on the number of processes. In addition to
the released layout each part gets `phantom_boxes.csv` and `phantom_truth.csv`: what is really in the images, also where
the layout has no boxes; CheXpert's train part also gets reports.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cxr.labels import CHEXPERT_FINDINGS, NO_FINDING, VINDR_NAMES, Language
from cxr.phantom.canvas import Layer
from cxr.phantom.cases import (
    BEDSIDE,
    SCREENING,
    Patient,
    RenderedCase,
    render_frontal,
    render_lateral,
    sample_findings,
    sample_patient,
)
from cxr.phantom.dicom import DicomFacts, write_dicom
from cxr.phantom.report_text import MIDDLE, place_of, write_report
from cxr.phantom.reports import VINDR_SPELLING, clean_labels, read_by, readers_of, reported_labels
from cxr.processes import map_in_processes
from cxr.progress import track

REPORTS, PLACES = "phantom_reports.csv", "phantom_places.csv"
"""CheXpert train: a report for each study, and where its findings are: side L, R, B; zone upper, middle, lower."""

BOXES = "phantom_boxes.csv"
"""The true boxes, one line per box, in pixels of the image."""

RELEASE = "CheXpert-v1.0-small"

FIRST_VALID_PATIENT = 64541
"""Number of the first patient in CheXpert's valid part; train begins at 1."""

SECOND_STUDY = 0.08
LATERAL = 0.1
FRENCH = 0.4
"""Share of the reports in French; the others are in English."""

MONOCHROME1 = 0.25

PARTS = ("train", "valid", "vindr_train", "vindr_test")

BOX_HEADER = ["x_min", "y_min", "x_max", "y_max"]


@dataclass(frozen=True)
class Job:
    """One patient to generate, and the folder for the files."""

    folder: Path
    part: str
    """One of PARTS."""
    index: int
    seed: int
    normal_share: float
    label_noise: float
    finding_shares: Mapping[str, float] = field(default_factory=dict)

    def rng(self) -> np.random.Generator:
        """The random generator of this patient, the same in every process."""
        return np.random.default_rng([self.seed, PARTS.index(self.part), self.index])


@dataclass
class Rows:
    """Lines of the tables: table name -> lines."""

    tables: dict[str, list[list[Any]]] = field(default_factory=dict)

    def add(self, table: str, *cells: Any) -> None:
        self.tables.setdefault(table, []).append(list(cells))


Generate = Callable[[Job], Rows]


def write_chexpert(jobs: Sequence[Job], *, folder: Path, num_workers: int) -> None:
    """Generate CheXpert patients and write images and tables under `folder`."""
    tables = _generate_all(_chexpert_patient, jobs, num_workers)
    release = folder / RELEASE
    release.mkdir(parents=True, exist_ok=True)
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]
    for part in ("train", "valid"):
        _write_table(release / f"{part}.csv", header, tables.get(part, []))
    _write_table(folder / REPORTS, ["report_id", "Path", "language", "report"], tables.get("reports", []))
    _write_table(folder / PLACES, ["report_id", "finding", "side", "zone"], tables.get("places", []))
    _write_truth(folder, "Path", tables)


def write_vindr(jobs: Sequence[Job], *, folder: Path, num_workers: int) -> None:
    """Generate VinDr images and write DICOM files and tables under `folder`."""
    tables = _generate_all(_vindr_image, jobs, num_workers)
    notes = folder / "annotations"
    notes.mkdir(parents=True, exist_ok=True)
    box_header = ["class_name", *BOX_HEADER]
    for part, who in (("train", ["rad_id"]), ("test", [])):
        boxes, labels = f"annotations_{part}", f"image_labels_{part}"
        _write_table(notes / f"{boxes}.csv", ["image_id", *who, *box_header], tables.get(boxes, []))
        columns = ["image_id", *who, *_vindr_columns(part)]
        _write_table(notes / f"{labels}.csv", columns, tables.get(labels, []))
    _write_truth(folder, "image_id", tables)


def _generate_all(generate: Generate, jobs: Sequence[Job], num_workers: int) -> dict[str, list[list[Any]]]:
    """Generate all patients; returns the tables' lines in the order of the jobs."""
    for folder in {job.folder for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[list[Any]]] = {}
    for rows in track(_mapped(generate, jobs, num_workers), "generating phantom data", total=len(jobs)):
        for name, lines in rows.tables.items():
            tables.setdefault(name, []).extend(lines)
    return tables


def _mapped(generate: Generate, jobs: Sequence[Job], num_workers: int) -> Iterable[Rows]:
    if num_workers <= 1 or len(jobs) < 8:
        yield from map(generate, jobs)
        return
    one_thread = partial(cv2.setNumThreads, 1)
    yield from map_in_processes(generate, jobs, num_workers=num_workers, chunk_size=8, initializer=one_thread)


def _write_table(path: Path, header: list[str], lines: Iterable[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _write_truth(folder: Path, key: str, tables: dict[str, list[list[Any]]]) -> None:
    _write_table(folder / BOXES, [key, "finding", *BOX_HEADER], tables.get("boxes", []))
    _write_table(folder / "phantom_truth.csv", [key, "findings"], tables.get("truth", []))


def _note_truth(rows: Rows, key: str, case: RenderedCase) -> None:
    rows.add("truth", key, "|".join(sorted(case.findings)))
    for finding, box in case.boxes:
        rows.add("boxes", key, finding, *(round(value, 1) for value in box))


def _chexpert_patient(job: Job) -> Rows:
    """One patient with one or two studies of one or two views."""
    rng, rows = job.rng(), Rows()
    patient = sample_patient(rng)
    first = 1 if job.part == "train" else FIRST_VALID_PATIENT
    name = f"patient{first + job.index:05d}"
    for study in range(1, 2 + int(job.part == "train" and rng.random() < SECOND_STUDY)):
        _chexpert_study(job, patient, f"{job.part}/{name}/study{study}", rows=rows, rng=rng)
    return rows


def _chexpert_study(job: Job, patient: Patient, study: str, *, rows: Rows, rng: np.random.Generator) -> None:
    wanted = sample_findings(rng, normal_share=job.normal_share, shares=job.finding_shares)
    case = render_frontal(patient, wanted, BEDSIDE, rng=rng)
    labels = (
        reported_labels(case.findings, label_noise=job.label_noise, rng=rng)
        if job.part == "train"
        else clean_labels(case.findings)
    )
    cells = ["" if label is None else label for label in labels]
    person = ["Female" if patient.female else "Male", patient.age]
    path = f"{RELEASE}/{study}/view1_frontal.jpg"
    _write_jpeg(job.folder / path, case.picture)
    projection = "AP" if rng.random() < 0.8 else "PA"
    rows.add(job.part, path, *person, "Frontal", projection, *cells)
    _note_truth(rows, path, case)
    if job.part == "train":
        _note_report(rows, job, study, path=path, case=case, labels=labels)
    if rng.random() < LATERAL:
        path = f"{RELEASE}/{study}/view2_lateral.jpg"
        picture = render_lateral(patient, case.findings, BEDSIDE, rng=rng)
        _write_jpeg(job.folder / path, picture)
        rows.add(job.part, path, *person, "Lateral", "", *cells)


def _note_report(
    rows: Rows, job: Job, study: str, *, path: str, case: RenderedCase, labels: Sequence[float | None]
) -> None:
    """Add the report of a study. It has a random generator of its own, so that the images do not depend on reports."""
    rng = np.random.default_rng([job.seed, PARTS.index(job.part), job.index, *study.encode()])
    language: Language = "fr" if rng.random() < FRENCH else "en"
    names = sorted({name for name, _ in case.boxes} - MIDDLE)
    places = {name: place_of([box for found, box in case.boxes if found == name], case.frame) for name in names}
    report_id = study.removeprefix(f"{job.part}/").replace("/", "_")
    rows.add("reports", report_id, path, language, write_report(labels, places, language=language, rng=rng))
    for name, place in places.items():
        rows.add("places", report_id, name, *place)


def _write_jpeg(path: Path, picture: Layer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.round(picture * 255).astype(np.uint8)
    path.write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())


def _vindr_image(job: Job) -> Rows:
    """One VinDr image with the marks of three readers (train) or their consensus (test)."""
    rng, rows = job.rng(), Rows()
    patient = sample_patient(rng)
    sampled = sample_findings(rng, normal_share=job.normal_share, shares=job.finding_shares)
    wanted = sampled - {"Support Devices"}
    case = render_frontal(patient, wanted, SCREENING, rng=rng)
    part = job.part.removeprefix("vindr_")
    image_id = hashlib.sha256(f"{job.seed} {job.part} {job.index}".encode()).hexdigest()[:32]
    path = job.folder / part / f"{image_id}.dicom"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(path, case.picture, _facts(image_id, patient, case=case, rng=rng))
    _note_truth(rows, image_id, case)
    if part == "test":
        _note_marks(rows, part, key=[image_id], marks=case.boxes, pneumonia="Pneumonia" in case.findings)
        return rows
    for reader in readers_of(rng):
        marks = read_by(case.boxes, image_hw=case.picture.shape[:2], rng=rng)
        seen = any(name == "Consolidation" for name, _ in marks)
        pneumonia = seen and "Pneumonia" in case.findings
        _note_marks(rows, part, key=[image_id, reader], marks=marks, pneumonia=pneumonia)
    return rows


def _facts(image_id: str, patient: Patient, *, case: RenderedCase, rng: np.random.Generator) -> DicomFacts:
    low = int(rng.integers(60, 500))
    return DicomFacts(
        image_id=image_id,
        sex="F" if patient.female else "M",
        age=patient.age,
        inverted=bool(rng.random() < MONOCHROME1),
        low=low,
        high=low + int(rng.integers(2400, 3500)),
        pixel_spacing_mm=400 / case.picture.shape[0],
    )


def _vindr_columns(part: str) -> list[str]:
    """The 28 label columns; train and test spell one of them differently, as in the release."""
    other = "Other diseases" if part == "train" else "Other disease"
    known = [name for name in VINDR_NAMES if name not in ("Other disease", "Other diseases")]
    return [*known[:-1], other, known[-1]]


def _note_marks(
    rows: Rows,
    part: str,
    *,
    key: list[str],
    marks: Sequence[tuple[str, tuple[float, float, float, float]]],
    pneumonia: bool,
) -> None:
    """Add what one reader marked to the tables of boxes and of image labels."""
    for finding, box in marks:
        rows.add(f"annotations_{part}", *key, VINDR_SPELLING[finding], *(round(x, 1) for x in box))
    names = {VINDR_SPELLING[finding] for finding, _ in marks}
    if pneumonia:
        names.add("Pneumonia")
    if not names:
        names.add(VINDR_SPELLING[NO_FINDING])
    if not marks:
        rows.add(f"annotations_{part}", *key, VINDR_SPELLING[NO_FINDING], "", "", "", "")
    rows.add(f"image_labels_{part}", *key, *(int(name in names) for name in _vindr_columns(part)))
