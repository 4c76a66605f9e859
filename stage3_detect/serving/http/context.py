"""What every router of the service shares."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stage3_detect.serving.corrections.store import CorrectionStore
from stage3_detect.serving.http.audit import Audit
from stage3_detect.serving.http.keys import KeyFile
from stage3_detect.serving.http.monitoring import Monitoring
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.records import RecordFile
from stage3_detect.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from stage3_detect.serving.dicom.node import DicomNode


@dataclass(frozen=True)
class ServiceContext:
    """One service: its model, its settings and what its requests share. keys, audit, corrections, dicom,
    records: None where switched off."""

    model: ServedModel
    settings: ServiceSettings
    workers: Workers
    monitoring: Monitoring
    keys: KeyFile | None
    audit: Audit | None
    corrections: CorrectionStore | None
    dicom: "DicomNode | None" = None
    records: RecordFile | None = None
