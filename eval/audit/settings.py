"""What the audit reads of a settings file of stage 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict

from cxr.config import Settings, UserError, load_config
from cxr.datasets import AnyData
from cxr.splits import SplitSettings


class AuditLabels(Settings):
    """The part of stage 1's `labels` that an audit needs."""

    model_config = ConfigDict(extra="ignore")

    not_mentioned: Literal["zeros", "ignore"] = "zeros"


class AuditInput(Settings):
    """The part of stage 1's `input` that an audit needs."""

    model_config = ConfigDict(extra="ignore")

    cache_dir: Path | None = Path("runs/cache")


class AuditSettings(Settings):
    """The keys of stage 1 that concern the data; stage 1 explains and checks them. Its other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    data: AnyData
    split: SplitSettings | None = None
    findings: list[str] | None = None
    """None: all findings that the data set labels."""
    label_file: Path | None = None
    labels: AuditLabels = AuditLabels()
    input: AuditInput = AuditInput()


def load_audit_settings(path: Path, overrides: Sequence[str] = ()) -> AuditSettings:
    """Read the file, then apply ``key.sub=value`` overrides.

    Raises:
        UserError: see `load_config`, or an override of a key that the audit does not read.
    """
    known = list(AuditSettings.model_fields)
    other = [text for text in overrides if text.partition("=")[0].partition(".")[0].strip() not in known]
    if other:
        raise UserError(f"--set {other[0]!r}: the audit does not read this key; it reads {', '.join(known)}")
    return load_config(AuditSettings, path, overrides)
