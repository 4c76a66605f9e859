"""Read checkpoints of ultralytics without running code that they may hold."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

from torch import nn, serialization
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import SAFE_LOAD

from cxr.config import UserError
from stage3_detect.model.classifier_features import ClassifierFeatures

assert SAFE_LOAD, "stage3_detect/offline.py switches ultralytics' own loading to restricted loading"

_FAILURES = (AttributeError, KeyError, TypeError, RuntimeError, ValueError, OSError, ImportError, UnpicklingError)
_SHOWN = 5

Network = TypeVar("Network", bound=nn.Module)


def read_checkpoint(path: Path, *, what: str, advice: str) -> dict[str, Any]:
    """The content of a checkpoint (a pickle), on the CPU.

    Only tensors, plain values and the classes of detection networks are built. A pickle that names anything else, such
    as a function that it would call, is refused before any of it runs.

    Args:
        what, advice: the start and the end of the error message.

    Raises:
        UserError: the file is damaged, no checkpoint, or names something else than a network.
    """
    try:
        content: dict[str, Any] = torch_safe_load(str(path), safe_only=True)[0]  # type: ignore[no-untyped-call]
    except _FAILURES as error:
        raise UserError(f"{what}: {path} cannot be loaded: {_reason(path, error)}; {advice}") from None
    except EOFError:
        raise UserError(f"{what}: {path} cannot be loaded: it is empty; {advice}") from None
    return content


def read_network(path: Path, *, what: str, advice: str) -> tuple[Any, dict[str, Any]]:
    """The network in a checkpoint, and the whole content. Arguments and UserError as `read_checkpoint`."""
    content = read_checkpoint(path, what=what, advice=advice)
    network = content.get("ema") or content.get("model")
    if not isinstance(network, nn.Module):
        raise UserError(f"{what}: {path} cannot be loaded: it holds no network; {advice}")
    return network, content


def _reason(path: Path, error: Exception) -> str:
    foreign = _foreign_names(path)
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        return f"it is a pickle that uses {', '.join(foreign[:_SHOWN])}{more}, which may run any code"
    return " ".join(str(error.__cause__ or error).split())[:200]


def _foreign_names(path: Path) -> list[str]:
    """What the pickle names that `torch_safe_load` did not allow."""
    try:
        return sorted(serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the file is no checkpoint at all; the caller has the reason
        return []


def allowed_in_checkpoints(cls: type[Network]) -> type[Network]:
    """Decorator: checkpoints may hold this class of ours, too."""
    serialization.add_safe_globals([cls])
    return cls


allowed_in_checkpoints(ClassifierFeatures)
