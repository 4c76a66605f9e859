"""The work of stage 1, in order: data, splits, training, thresholds from validation, figures on the test split."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxr.config import UserError
from cxr.datasets.tables import Dataset, count_reasons
from cxr.labels import check_findings
from cxr.runs import Run
from cxr.splits import check_no_leak, fingerprint, load_splits, patients_of, save_splits
from eval.classification import choose_thresholds, classification_metrics
from stage1_classify.config import Stage1Settings
from stage1_classify.data import Split, check_no_empty_finding
from stage1_classify.model import Classifier
from stage1_classify.pictures import Pictures
from stage1_classify.predict import predict_logits, prediction_table, sigmoid
from stage1_classify.seen import OUTPUT, Seen, check_unseen, read_seen, write_seen
from stage1_classify.studies import make_cases
from stage1_classify.summary import write_summary
from stage1_classify.targets import evaluation_targets, training_targets
from stage1_classify.train import fit

SPLITS = ("train", "val", "test")

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Scored:
    """Probabilities (N, K) of a split's images."""

    data: Dataset
    targets: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]


class Stage1:
    """Settings, run folder and processes of one training."""

    def __init__(self, run: Run, settings: Stage1Settings, fabric: Fabric) -> None:
        self.run, self.settings, self.fabric = run, settings, fabric
        self._before: Seen = {}

    def __call__(self) -> None:
        """Do everything; the first process evaluates and finishes the run."""
        with self.run.phase("reading the data"):
            data, ids = self._read_data()
            splits = {name: self._load(data.select(ids[name]), name) for name in SPLITS}
        with self.run.phase("training"):
            progress = fit(self.fabric, splits["train"], splits["val"], self.settings, self.run.dir)
        if not self.fabric.is_global_zero:
            return
        log.info("best epoch %d of %d", progress.best_epoch, progress.epoch)
        with self.run.phase("evaluation"):
            model = self._best_model()
            scored = {
                name: self._score(model, data.select(ids[name]), splits[name]) for name in ("val", "test")
            }
        self._finish(data, ids, scored, splits["train"])

    def _read_data(self) -> tuple[Dataset, dict[str, list[str]]]:
        data = self.settings.data.read()
        for reason, count in count_reasons(data.excluded).items():
            log.info("left out of %s: %d x %s", data.name, count, reason)
        check_findings(self.settings.findings, data.findings, source="findings")
        ids = self.settings.split.make(data)
        missing = [name for name in SPLITS if not ids.get(name)]
        if missing:
            raise UserError(f"split: no images in {' and '.join(missing)}; stage 1 needs {', '.join(SPLITS)}")
        check_no_leak(data, ids)
        self._pin_splits(ids)
        self._before = read_seen(self.settings.init_from) if self.settings.init_from else {}
        check_unseen(self._before, data, ids["val"], split="val", by=["train"])
        check_unseen(self._before, data, ids["test"], split="test", by=["train", "val"])
        return data, ids

    def _pin_splits(self, ids: Mapping[str, list[str]]) -> None:
        """Keep the splits from the first call on; a run that goes on with other images would mix them."""
        path = self.run.dir / "splits.json"
        own = {name: list(ids[name]) for name in SPLITS}
        if path.is_file() and load_splits(path) != own:
            raise UserError(
                f"run {self.run.dir}: the data's images or splits changed since it began; give another --out"
            )
        if self.fabric.is_global_zero:
            save_splits(path, own)

    def _load(self, data: Dataset, name: str) -> Split:
        labels = data.labels[self.settings.findings]
        if name == "train":
            check_no_empty_finding(labels, split=name)
            targets = training_targets(labels, self.settings.labels, seed=self.settings.seed)
        else:
            targets = evaluation_targets(labels, self.settings.labels)
        log.info("%s: %d images", name, len(labels))
        pictures = Pictures(data, self.settings.input, progress=self.fabric.is_global_zero)
        return Split(pictures, make_cases(data, self.settings.views.max_views), targets)

    def _best_model(self) -> Classifier:
        model = Classifier(self.settings)
        model.load_state_dict(load_file(self.run.dir / "best.safetensors"))
        return model.to(self.fabric.device).eval()

    def _score(self, model: Classifier, data: Dataset, split: Split) -> Scored:
        logits = predict_logits(
            model,
            split.pictures,
            num_channels=self.settings.backbone.in_channels,
            device=self.fabric.device,
            progress=True,
        )
        return Scored(data, split.targets, sigmoid(logits))

    def _finish(
        self, data: Dataset, ids: Mapping[str, list[str]], scored: Mapping[str, Scored], train: Split
    ) -> None:
        findings, run_dir = self.settings.findings, self.run.dir
        thresholds = choose_thresholds(scored["val"].targets, scored["val"].probabilities)
        metrics = self._metrics(scored["test"], thresholds)
        outputs = {"weights": run_dir / "best.safetensors", "splits": run_dir / "splits.json"}
        outputs[OUTPUT] = run_dir / "seen.json"
        write_seen(outputs[OUTPUT], data, ids, before=self._before)
        for name, part in scored.items():
            outputs[f"predictions_{name}"] = run_dir / f"predictions_{name}.csv"
            table = prediction_table(part.data.images["image_id"].tolist(), part.probabilities, findings)
            table.to_csv(outputs[f"predictions_{name}"], index=False)
        outputs["report"] = write_summary(
            run_dir, self.settings, metrics, train=train, counts={k: len(v) for k, v in ids.items()}
        )
        self.run.finish(
            metrics,
            outputs,
            findings=findings,
            thresholds={f: _number(t) for f, t in zip(findings, thresholds, strict=True)},
            thresholds_chosen_on="val",
            splits={name: {"count": len(ids[name]), "sha256": fingerprint(ids[name])} for name in SPLITS},
            excluded=[{"what": item.what, "reason": item.reason} for item in data.excluded],
            synthetic=data.synthetic,
            world_size=self.fabric.world_size,
            precision=str(self.fabric.strategy.precision.precision),
            seed=self.settings.seed,
        )

    def _metrics(self, test: Scored, thresholds: npt.NDArray[np.float64]) -> dict[str, float | None]:
        return classification_metrics(
            test.targets,
            test.probabilities,
            findings=self.settings.findings,
            thresholds=thresholds,
            groups=patients_of(test.data).tolist(),
            seed=self.settings.seed,
            min_positives=self.settings.train.min_positives,
        )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
