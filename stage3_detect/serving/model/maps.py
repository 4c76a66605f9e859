"""Which heat maps the service draws: those of the run's CAM method, or those of the classifier's head."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from cxr.config import UserError
from cxr.imaging.files import Pixels, Region
from cxr.runs.run_folder import FinishedRun, open_run
from stage3_detect.run_chain import chain_of
from stage3_detect.serving.interface import FindingMap, MapsError
from stage3_detect.serving.model.bundle import Bundle

MAX_MS_PER_IMAGE = 1000.0
"""A CAM method that stage 2 measured to be slower is not used: the reader would wait."""

BLANK = np.tile(np.arange(64, dtype=np.uint8), (80, 1))
"""An image (H, W) for first passes."""

Chain = tuple[FinishedRun, Path]
"""The stage 2 run, and the folder of the stage 1 run."""

log = logging.getLogger("raybox")


class MapMaker(Protocol):
    """Makes heat maps by `method`."""

    method: str

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W)."""
        ...


class LoadedLater:
    """Maps that are loaded while the service already finds boxes; a call waits until they are. Thread-safe."""

    def __init__(self, load: Callable[[], MapMaker], method: str) -> None:
        """method: what is expected; the answer of `load` replaces it."""
        self.method = method
        self._lock = Lock()
        pool = ThreadPoolExecutor(1, thread_name_prefix="maps")
        self._maker = pool.submit(load)
        self._maker.add_done_callback(_log_failure)
        pool.shutdown(wait=False)

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W).

        Raises:
            MapsError: loading failed; the reason was logged when it did.
        """
        if self._maker.exception() is not None:
            raise MapsError("The heat maps of this service could not be loaded; its log gives the reason.")
        maker = self._maker.result()
        self.method = maker.method
        with self._lock:
            return maker.maps(image)


def _log_failure(maker: "Future[MapMaker]") -> None:
    error = maker.exception()
    if isinstance(error, UserError):
        log.error("heat maps: %s", "; ".join(error.problems))
    elif error is not None:
        log.error("heat maps could not be loaded", exc_info=error)


def open_maps(bundle: Bundle, *, regions: tuple[Region, ...], num_threads: int) -> LoadedLater:
    """The maps of the run's CAM method where PyTorch and the run chain are at hand, else those of the head.

    Raises:
        UserError: there is neither, or the classifier in the bundle is damaged.
    """
    chain = _run_chain(bundle) if find_spec("torch") is not None else None
    if chain is None and bundle.manifest["classifier"] is None:
        raise UserError(
            f"--maps: the bundle {bundle.dir} has no classifier; write it again where the stage 1 run is at hand "
            "(python stage3_detect/bundle.py RUN --from STAGE1_RUN), or leave out --maps"
        )

    # the head at once, so that a damaged file ends the start and not each request for maps
    head = _of_head(bundle, regions, num_threads) if chain is None else None

    def load() -> MapMaker:
        maker = head if chain is None else _of_chain_or_head(bundle, chain, regions, num_threads)
        assert maker is not None
        maker.maps(BLANK)  # the first pass is slow
        return maker

    expected = _methods(chain[0]) if chain is not None else str(bundle.manifest["classifier"]["method"])
    return LoadedLater(load, expected)


def _of_chain_or_head(bundle: Bundle, chain: Chain, regions: tuple[Region, ...], num_threads: int) -> MapMaker:
    try:
        return _of_chain(*chain, regions)
    except UserError as error:
        if bundle.manifest["classifier"] is None:
            raise
        log.warning("heat maps are those of the head: %s", "; ".join(error.problems))
        return _of_head(bundle, regions, num_threads)


def _of_head(bundle: Bundle, regions: tuple[Region, ...], num_threads: int) -> MapMaker:
    from stage3_detect.serving.model.classifier import OnnxClassifier

    entry = bundle.manifest["classifier"]
    return OnnxClassifier(bundle.file(entry["file"]), entry, regions=regions, num_threads=num_threads)


def _of_chain(stage2: FinishedRun, stage1: Path, regions: tuple[Region, ...]) -> MapMaker:
    from stage3_detect.serving.model.cam_maps import CamMaps  # PyTorch takes seconds

    return CamMaps(stage2, stage1, regions=regions)


def _run_chain(bundle: Bundle) -> Chain | None:
    """The stage 2 run and the stage 1 folder behind a bundle that lies in its run; None where one is not at hand, or
    where the CAM method is too slow."""
    try:
        chain = chain_of(open_run(bundle.dir.resolve().parent.parent, stage="stage3"))
    except UserError:
        return None
    if chain.stage2 is None or chain.stage1 is None:
        return None
    for method in set(chain.stage2.manifest["methods_by_finding"].values()):
        milliseconds = chain.stage2.metrics.get(f"ms_per_image/{method}")
        if milliseconds is not None and milliseconds > MAX_MS_PER_IMAGE:
            log.warning("heat maps are those of the head: %s takes %.0f ms an image", method, milliseconds)
            return None
    return chain.stage2, chain.stage1


def _methods(stage2: FinishedRun) -> str:
    return ", ".join(dict.fromkeys(stage2.manifest["methods_by_finding"].values()))
