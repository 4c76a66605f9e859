"""What every router of the service shares."""

from dataclasses import dataclass

from stage3_detect.serving.audit import Audit
from stage3_detect.serving.correction_store import CorrectionStore
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.keys import KeyRing
from stage3_detect.serving.monitoring import Monitoring
from stage3_detect.serving.settings import ServiceSettings
from stage3_detect.serving.workers import Workers


@dataclass(frozen=True)
class ServiceContext:
    """One service: its model, its settings and what its requests share. keys, audit, corrections: None where switched
    off."""

    model: ServedModel
    settings: ServiceSettings
    workers: Workers
    monitoring: Monitoring
    keys: KeyRing | None
    audit: Audit | None
    corrections: CorrectionStore | None
