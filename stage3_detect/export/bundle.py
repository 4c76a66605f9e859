"""The bundle: all that the service needs of a run chain, without PyTorch. Written by stage 3 and by `bundle.py`.

bundle.json       facts, thresholds and curves; names every other file with its SHA-256
detector*         the exported formats that passed their checks, the fastest first in bundle.json
classifier.onnx   the classifier with the maps of its head
quality_gate.npz   what good images look like
MODEL_CARD.md
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError
from cxr.labels import ancestors, slug
from cxr.runs.label_files import terms_of_outputs
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, atomic_write_text
from eval.detection.points import read_points, with_measured
from stage3_detect.export.classifier_file import FILE_NAME as CLASSIFIER
from stage3_detect.export.classifier_file import export_classifier
from stage3_detect.export.formats import usable_formats
from stage3_detect.export.gate_file import FILE_NAME as GATE
from stage3_detect.run_chain import chain_of
from stage3_detect.serving.model.bundle import BUNDLE_FORMAT, BUNDLE_JSON
from stage3_detect.serving.model.manifest import MODEL_CARD

LICENCE = "AGPL-3.0-or-later"
_FALLBACK = "onnx"
_FACTS = ("findings", "operating_points", "score_curves", "box_correction", "regions", "synthetic")

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class BundleSource:
    """A stage 3 run, finished or about to be.

    manifest: at least the keys `_FACTS` and `export_warnings`. files: outputs by name. chain: name of the experiment.
    stage1: the run folder of the classifier, or None where it is not at hand.
    """

    manifest: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    files: Mapping[str, Path]
    chain: str
    stage1: Path | None

    @classmethod
    def of_run(cls, run: FinishedRun, stage1: Path | None = None, gate: Path | None = None) -> "BundleSource":
        """The source of a finished stage 3 run; its classifier is found through the runs' recorded inputs.

        Args:
            gate: a quality gate in place of the run's.

        Raises:
            UserError: an output is missing.
        """
        files = {name: run.output(name) for name in run.manifest["outputs"]}
        files |= {"quality_gate": gate} if gate else {}
        found = stage1 or chain_of(run).stage1
        return cls(run.manifest, run.settings, run.metrics, files, run.dir.resolve().parent.name, found)


def write_bundle(folder: Path, source: BundleSource) -> Path:
    """Write the bundle as a whole, replacing an older one; returns the path of bundle.json, which is written last.

    Raises:
        UserError: no exported format passed its checks, or `folder` holds something else.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / BUNDLE_JSON).is_file()):
        raise UserError(f"--out {folder}: exists and is not a bundle; give an empty or new folder")
    engines = usable_engines(source)
    with _replaced(folder.absolute()) as partial:  # "." has no name
        _copy_files(partial, source, engines)
        classifier = _classifier(partial, source.stage1)
        content = _identity(source) | _facts(source, engines, classifier=classifier)
        content |= {"files": {path.name: sha256_of(path) for path in sorted(partial.iterdir())}}
        atomic_write_text(partial / BUNDLE_JSON, json.dumps(content, indent=1) + "\n")
    return folder.absolute() / BUNDLE_JSON


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` at the end; after an error or a kill the old one is still whole."""
    partial, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("partial", "old"))
    for left_over in (partial, old):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        folder.replace(old)  # not deleted first: a kill would leave a part of it
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _copy_files(folder: Path, source: BundleSource, engines: Sequence[Mapping[str, Any]]) -> None:
    """The files of the engines, the model card, and the quality gate."""
    for engine in engines:
        for name in (engine["format"], f"{engine['format']}_bin"):
            if name in source.files:
                shutil.copyfile(source.files[name], folder / source.files[name].name)
    shutil.copyfile(source.files["model_card"], folder / MODEL_CARD)
    if "quality_gate" in source.files:
        shutil.copyfile(source.files["quality_gate"], folder / GATE)
    else:
        log.warning("bundle: no quality gate, only fixed rules; give good images with bundle.py --gate-images")


def _facts(
    source: BundleSource, engines: Sequence[Mapping[str, Any]], *, classifier: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What bundle.json says of detector and classifier, and the ancestors and own codes of all their findings."""
    facts = {key: source.manifest[key] for key in _FACTS if key in source.manifest}
    points = with_measured(read_points(facts.get("operating_points", {})), source.metrics)
    facts["operating_points"] = {name: point.as_dict() for name, point in points.items()}
    facts["score_curves"] = facts.get("score_curves") or None  # {} in a run without true boxes on its tune split
    terms = terms_of_outputs(source.files)
    parents, own = terms.parents, None
    if classifier is not None:
        parents, own = classifier["parents"], {key: classifier[key] for key in classifier if key != "parents"}
    named = dict.fromkeys([*facts["findings"], *(own or {}).get("findings", ())])
    above = {name: ancestors(name, parents) for name in named}
    codes = {name: code for name, code in terms.codes.items() if name in named}
    gate = {"file": GATE} if "quality_gate" in source.files else None
    more = {"parents": above, "codes": codes, "engines": engines, "classifier": own, "quality_gate": gate}
    return facts | more


def _identity(source: BundleSource) -> dict[str, Any]:
    weights = sha256_of(source.files["weights"])
    architecture = Path(str(source.settings["model"])).stem
    return {
        "format": BUNDLE_FORMAT,
        "id": f"{slug(source.chain).replace('_', '-')}-{architecture}-{weights[:8]}",
        "name": f"{architecture} detector of {source.chain}",
        "licence": LICENCE,
        "weights_sha256": weights,
        "settings": {"predict": dict(source.settings["predict"])},
    }


def usable_engines(source: BundleSource) -> list[dict[str, Any]]:
    """The formats that passed their checks, fastest first: the fastest on a CPU, ONNX, and TensorRT.

    Raises:
        UserError: there is none.
    """
    passed = usable_formats(source.files, source.manifest["export_warnings"], source.metrics)
    on_cpu = [name for name in passed if name != "tensorrt_fp16"]
    kept = [name for name in passed if name in (*on_cpu[:1], _FALLBACK, "tensorrt_fp16")]
    if not on_cpu:
        raise UserError(
            "bundle: no exported format for a CPU passed its checks; add onnx or openvino_fp16 to export.formats and "
            "run stage 3 again"
        )
    return [_engine(source, name) for name in kept]


def _engine(source: BundleSource, name: str) -> dict[str, Any]:
    measured = ("box_difference_px", "score_difference", "ap40_loss")
    return {
        "format": name,
        "file": source.files[name].name,
        "ms_per_image": source.metrics.get(f"ms_per_image/detector_{name}"),
        **{key: source.metrics.get(f"export/{name}/{key}") for key in measured},
    }


def _classifier(folder: Path, stage1: Path | None) -> dict[str, Any] | None:
    """Export the classifier into `folder`; None, with a warning, where there is none or it cannot be exported."""
    if stage1 is None:
        log.warning("bundle: the stage 1 run is not at hand, so the service draws no heat maps; give it with --from")
        return None
    try:
        return {"file": CLASSIFIER, **export_classifier(stage1, folder / CLASSIFIER)}
    except UserError as error:
        log.warning("bundle: the service draws no heat maps: %s", "; ".join(error.problems))
        return None
