"""The data sets that can be read, one at a time."""

from cxr.datasets.chestxdet import ChestxdetData
from cxr.datasets.chexlocalize import ChexlocalizeData
from cxr.datasets.chexpert import ChexpertData
from cxr.datasets.csv_table import CsvTableData
from cxr.datasets.kermany import KermanyData
from cxr.datasets.mimic import MimicData
from cxr.datasets.nih import NihData
from cxr.datasets.openi import OpeniData
from cxr.datasets.padchest import PadchestData
from cxr.datasets.phantom import PhantomData
from cxr.datasets.rsna import RsnaData
from cxr.datasets.siim import SiimData
from cxr.datasets.spr import SprData
from cxr.datasets.tbx11k import Tbx11kData
from cxr.datasets.vindr import VindrData

OneData = (
    ChexpertData
    | ChexlocalizeData
    | MimicData
    | PadchestData
    | OpeniData
    | NihData
    | RsnaData
    | SiimData
    | ChestxdetData
    | VindrData
    | Tbx11kData
    | KermanyData
    | SprData
    | CsvTableData
    | PhantomData
)
"""Settings of one data set; the key `dataset` selects the kind."""
