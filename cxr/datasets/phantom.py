"""The default data: synthetic chest radiographs in the layouts of CheXpert and VinDr-CXR, generated from a seed.

`PhantomData` generates a part if it does not exist and loads it with the data set module of its layout.
`Dataset.synthetic` is True, so reports label all figures as figures from synthetic images.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, field_validator

from cxr.config import Settings, UserError
from cxr.datasets.chexpert import ChexpertData
from cxr.datasets.vindr import VindrData
from cxr.phantom.cases import SHARE_OF_ABNORMAL
from cxr.phantom.write import BOXES, Job, write_chexpert, write_vindr
from cxr.tables import Dataset, DataSettings, box_table
from cxr.threads import num_cores

log = logging.getLogger("raybox")

MARKER = "phantom.json"
FORMAT = 1
"""Increases whenever the same settings generate other images."""

Part = Literal["chexpert", "vindr"]


class PhantomSettings(Settings):
    """What to generate. The same settings give the same files, byte for byte."""

    seed: int = Field(default=0, ge=0)
    num_patients_train: int = Field(default=900, ge=0)
    """CheXpert part: number of patients in train; there are about 1.2 times as many images."""
    num_patients_valid: int = Field(default=160, ge=0)
    num_vindr_train: int = Field(default=160, ge=0)
    """VinDr part: number of images in train, each marked by three readers."""
    num_vindr_test: int = Field(default=200, ge=0)
    normal_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the studies without any finding."""
    label_noise: float = Field(default=0.05, ge=0, le=1)
    """CheXpert train: how often a report misses a finding. For false findings see `cxr/phantom/reports.py`."""
    finding_shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Share of the studies with any finding that have this one, for a rarer or more frequent finding than by default
    (`SHARE_OF_ABNORMAL` in `cxr/phantom/cases.py`), for instance {Lung Lesion: 0.04}."""

    @field_validator("finding_shares")
    @classmethod
    def _knows_the_findings(cls, shares: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in shares if name not in SHARE_OF_ABNORMAL]
        if unknown or shares.keys() == SHARE_OF_ABNORMAL.keys():
            what = f"the phantom has no {unknown[0]!r}" if unknown else "leave out at least one finding"
            raise ValueError(f"{what}; it draws {', '.join(SHARE_OF_ABNORMAL)}")
        return shares

    def of_part(self, part: Part) -> dict[str, Any]:
        """The settings that influence one part, as its marker file records them."""
        names = ["num_vindr_train", "num_vindr_test"]
        if part == "chexpert":
            names = ["num_patients_train", "num_patients_valid", "label_noise"]
        values = {name: getattr(self, name) for name in ("seed", "normal_share", *names)}
        shares = {"finding_shares": self.finding_shares} if self.finding_shares else {}  # older markers have none
        return {"format": FORMAT, "part": part} | values | shares


class PhantomData(DataSettings):
    """The folder of the phantom data, and which part of it to load."""

    renamed: ClassVar[Mapping[str, str]] = {"drawing": "generate"}

    dataset: Literal["phantom"] = "phantom"
    part: Part
    """"chexpert": labels of the image only. "vindr": boxes."""
    generate: PhantomSettings = PhantomSettings()
    view: Literal["frontal", "all"] = "frontal"
    """CheXpert part only."""
    vindr_part: Literal["train", "test", "all"] = "all"
    """VinDr part only. "train": boxes of three readers per image. "test": their consensus."""

    def read(self) -> Dataset:
        """Generate the part if it does not exist, then load it as the real release would be loaded."""
        folder = generate(self.root, self.generate, part=self.part)
        shared = self.model_dump(include={"on_problem", "check_files", "max_images"}) | {"root": folder}
        release: ChexpertData | VindrData
        if self.part == "chexpert":
            release = ChexpertData.model_validate(shared | {"view": self.view})
        else:
            release = VindrData.model_validate(shared | {"part": self.vindr_part})
        loaded = release.read()
        boxes = _true_boxes(folder, loaded) if self.part == "chexpert" else loaded.boxes
        return replace(loaded, boxes=boxes, name=self.name or f"phantom_{self.part}", synthetic=True)


def _true_boxes(folder: Path, loaded: Dataset) -> pd.DataFrame:
    """The true boxes of the CheXpert part, which the real CheXpert does not have.

    They serve only to train the supervised detector for comparison and to measure the quality of pseudo-labels.
    """
    boxes = pd.read_csv(folder / BOXES).rename(
        columns={"Path": "path", "x_min": "x1", "y_min": "y1", "x_max": "x2", "y_max": "y2"}
    )
    found = boxes.merge(loaded.images[["path", "image_id"]], on="path", validate="many_to_one")
    return box_table(found.drop(columns="path"))


def generate(root: Path, settings: PhantomSettings, *, part: Part, num_workers: int | None = None) -> Path:
    """Make sure that `root/part` holds what the settings ask for, and return that folder.

    The files are written to a temporary folder that is renamed when complete, so an interruption leaves no incomplete
    data. `num_workers` defaults to the number of available processors and does not change the files.

    Raises:
        UserError: the folder holds something else, or was generated with other settings.
    """
    folder = root / part
    wanted = settings.of_part(part)
    if _is_there(folder, wanted):
        return folder
    log.info("generating the phantom's %s part in %s", part, folder)
    _remove_left_over(root, part)
    draft = root / f".{part}.draft-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        _write(draft, settings, part=part, num_workers=num_workers or num_cores())
        (draft / MARKER).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        try:
            draft.rename(folder)
        except OSError:
            if not _is_there(folder, wanted):  # else another process was faster
                raise
    except OSError as error:
        raise UserError(f"phantom: cannot write {folder}: {error}; give another `root`") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _remove_left_over(root: Path, part: Part) -> None:
    """Remove the drafts of processes that no longer exist, and of an earlier one with the number of this process."""
    for draft in root.glob(f".{part}.draft-*"):
        process = draft.name.rpartition("-")[2]
        if process.isdecimal() and (int(process) == os.getpid() or not _is_alive(int(process))):
            shutil.rmtree(draft, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only tests whether the process exists
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(folder: Path, settings: PhantomSettings, *, part: Part, num_workers: int) -> None:
    if part == "chexpert":
        counts = {"train": settings.num_patients_train, "valid": settings.num_patients_valid}
    else:
        counts = {"vindr_train": settings.num_vindr_train, "vindr_test": settings.num_vindr_test}
    jobs = [
        Job(folder, name, index, settings.seed, settings.normal_share, settings.label_noise, settings.finding_shares)
        for name, count in counts.items()
        for index in range(count)
    ]
    write = write_chexpert if part == "chexpert" else write_vindr
    write(jobs, folder=folder, num_workers=num_workers)


def _is_there(folder: Path, wanted: dict[str, Any]) -> bool:
    """True if the folder contains the wanted data, False if it is empty or missing; UserError for anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = folder / MARKER
    if not marker.is_file():
        raise UserError(f"phantom: {folder} exists and is not phantom data (no {MARKER}); give another `root`")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"phantom: {marker} cannot be read; delete {folder} to generate it again")
    keys = [key for key in wanted | found if wanted.get(key) != found.get(key)]
    if keys:
        differences = ", ".join(f"{key} {found.get(key)!r}, not {wanted.get(key)!r}" for key in keys)
        raise UserError(
            f"phantom: {folder} was generated with {differences}; use those settings, give another `root`, "
            "or delete the folder to generate it again"
        )
    return True
