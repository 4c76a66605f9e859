"""Data set modules: one per data set, from the released folder to tables with fixed columns (`cxr.tables`).

To add a data set, write a module with a settings class (`dataset: Literal["its_name"]`, `read()`), add its finding
names to ``cxr/labels/findings.py`` or ``cxr/labels/release_names.py`` and its class to `OneData`, and write a builder
in ``tests/cxr/datasets/release_builders.py``.
"""

from typing import Annotated

from pydantic import Field

from cxr.datasets.chestxdet import ChestxdetData
from cxr.datasets.chexlocalize import ChexlocalizeData
from cxr.datasets.chexpert import ChexpertData
from cxr.datasets.csv_table import CsvTableData
from cxr.datasets.kermany import KermanyData
from cxr.datasets.mimic import MimicData
from cxr.datasets.nih import NihData
from cxr.datasets.one import OneData
from cxr.datasets.openi import OpeniData
from cxr.datasets.padchest import PadchestData
from cxr.datasets.phantom import PhantomData
from cxr.datasets.rsna import RsnaData
from cxr.datasets.several import SeveralData, make_splits, parts_of
from cxr.datasets.siim import SiimData
from cxr.datasets.spr import SprData
from cxr.datasets.tbx11k import Tbx11kData
from cxr.datasets.vindr import VindrData
from cxr.tables import Dataset, DataSettings, Exclusion

AnyData = Annotated[OneData | SeveralData, Field(discriminator="dataset")]
"""Settings of one data set or of several; the key `dataset` selects the kind."""

__all__ = [
    "AnyData",
    "ChestxdetData",
    "ChexlocalizeData",
    "ChexpertData",
    "CsvTableData",
    "DataSettings",
    "Dataset",
    "Exclusion",
    "KermanyData",
    "MimicData",
    "NihData",
    "OneData",
    "OpeniData",
    "PadchestData",
    "PhantomData",
    "RsnaData",
    "SeveralData",
    "SiimData",
    "SprData",
    "Tbx11kData",
    "VindrData",
    "make_splits",
    "parts_of",
]
