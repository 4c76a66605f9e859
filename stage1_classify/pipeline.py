"""The work of stage 1, in order: data, splits, training, then the judgement that every classifier gets."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from lightning_fabric import Fabric

from cxr.config import UserError
from cxr.imaging.pictures import Pictures, decodable_splits, resolved_input
from cxr.labels import check_findings
from cxr.runs.run_folder import Run, atomic_write_text
from cxr.splits import check_no_leak, load_splits, save_splits
from cxr.tables import Dataset, count_reasons
from eval.classification.audit import finding_counts
from stage1_classify.data.batches import Split, check_no_empty_finding
from stage1_classify.data.hierarchy import make_hierarchy
from stage1_classify.data.studies import Cases, make_cases, sum_views
from stage1_classify.data.targets import policies, training_targets
from stage1_classify.evaluation.evaluate import Evidence, RawScores, evaluation_split, finish_run
from stage1_classify.model import relabel, seen
from stage1_classify.model.classifier import Classifier, read_classifier
from stage1_classify.model.predict import predict_logits
from stage1_classify.model.probabilities import sigmoid
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.fabric import precision_of
from stage1_classify.training.train import fit

SPLITS = ("train", "val", "test")

LABELS = "labels.sha256"
"""Fingerprint of the labels that a training began with."""

log = logging.getLogger("raybox")


class Stage1:
    """Settings, run folder and processes of one training."""

    def __init__(self, run: Run, settings: Stage1Settings, fabric: Fabric) -> None:
        self.run, self.settings, self.fabric = run, settings, fabric
        self._hierarchy = make_hierarchy(settings.hierarchy, settings.findings)
        self._before: seen.Seen = {}

    def __call__(self) -> None:
        """Do everything; the first process evaluates and finishes the run."""
        with self.run.phase("reading the data"):
            data, ids = self._read_data()
            train = self._training_split(data.select(ids["train"]))
            val, test = (self._evaluation_split(data, ids, name) for name in ("val", "test"))
        with self.run.phase("training"):
            progress = fit(self.fabric, train, val, self.settings, self.run.dir)
        if not self.fabric.is_global_zero:
            return
        log.info("best epoch %d of %d", progress.best_epoch, progress.epoch)
        with self.run.phase("evaluation"):
            model = read_classifier(self.settings, self.run.dir / "best.safetensors").to(self.fabric.device)
            evidence = Evidence(
                data, ids, val=self._judge(model, val), test=self._judge(model, test), train=train
            )
            finish_run(
                self.run,
                self.settings,
                evidence,
                outputs=self._outputs(data, ids),
                facts=self._facts() | {"best_epoch": progress.best_epoch},
            )

    def _read_data(self) -> tuple[Dataset, dict[str, list[str]]]:
        """The images of the splits, with labels of the settings' findings alone; and the splits."""
        data = self.settings.data.read()
        check_findings(self.settings.findings, data.findings, source="findings")
        data = replace(data, labels=data.labels[self.settings.findings])
        ids = self.settings.split.make(data)
        data, ids = decodable_splits(
            data,
            {name: ids.get(name, []) for name in SPLITS},
            self.settings.input,
            on_problem=self.settings.data.on_problem,
            progress=self.fabric.is_global_zero,
        )
        for reason, count in count_reasons(data.excluded).items():
            log.info("left out of %s: %d x %s", data.name, count, reason)
        missing = [name for name in SPLITS if not ids[name]]
        if missing:
            raise UserError(f"split: no images in {' and '.join(missing)}; stage 1 needs {', '.join(SPLITS)}")
        check_no_leak(data, ids)
        self._pin_data(data, ids)
        self._before = self._seen_before(data, ids)
        return data, ids

    def _pin_data(self, data: Dataset, ids: Mapping[str, list[str]]) -> None:
        """Keep splits and labels from the first call on; a run that goes on with others would mix them."""
        splits, pinned = self.run.dir / "splits.json", self.run.dir / LABELS
        labels = hashlib.sha256(data.labels.to_numpy(np.float64).tobytes()).hexdigest()
        if self.run.state == "resumed" and splits.is_file():
            changed = [] if load_splits(splits) == ids else ["images or splits"]
            if not changed and pinned.is_file() and pinned.read_text(encoding="utf-8") != labels:
                changed.append("labels")
            if changed:
                raise UserError(
                    f"run {self.run.dir}: the data's {changed[0]} changed since it began; give another --out"
                )
        if self.fabric.is_global_zero:
            save_splits(splits, ids)
            atomic_write_text(pinned, labels)

    def _seen_before(self, data: Dataset, ids: Mapping[str, list[str]]) -> seen.Seen:
        """Whom the starting point and the teacher have seen; none of them may be scored on."""
        sources = [
            path for path in (self.settings.init_from, self.settings.labels.teacher) if path is not None
        ]
        return seen.union([seen.check_source(path, data, ids) for path in sources])

    def _training_split(self, data: Dataset) -> Split:
        """The training cases; from here on the settings hold the statistics that pictures are normalised by."""
        check_no_empty_finding(data.labels, split="train")
        show = self.fabric.is_global_zero
        cases = make_cases(data, self.settings.views.max_views)
        _tell_cases("train", data, cases)
        pictures = Pictures(data, self.settings.input, progress=show)
        resolved = resolved_input(
            self.settings.input, pictures, num_channels=self.settings.backbone.in_channels, progress=show
        )
        self.settings = self.settings.model_copy(update={"input": resolved})
        return Split(pictures.normalised_by(resolved), cases, self._hierarchy.propagate(self._targets(cases)))

    def _targets(self, cases: Cases) -> npt.NDArray[np.float32]:
        settings = self.settings.labels
        labels = cases.first.labels
        counts = finding_counts(labels).assign(policy=pd.Series(policies(labels.columns, settings)))
        log.info("training labels:\n%s", counts.to_string())
        teacher = None
        if settings.teacher is not None:
            with self.fabric.rank_zero_first():
                teacher = relabel.relabel(
                    settings,
                    cases.first,
                    self.settings.findings,
                    run_dir=self.run.dir,
                    device=self.fabric.device,
                )
        return training_targets(labels, settings, seed=self.settings.seed, teacher=teacher)

    def _evaluation_split(self, data: Dataset, ids: Mapping[str, list[str]], name: str) -> Split:
        part = data.select(ids[name])
        split = evaluation_split(part, self.settings, progress=self.fabric.is_global_zero)
        _tell_cases(name, part, split.cases)
        return split

    def _judge(self, model: Classifier, split: Split) -> RawScores:
        logits = predict_logits(
            model,
            split.pictures,
            num_channels=self.settings.backbone.in_channels,
            device=self.fabric.device,
            progress=True,
        )
        return RawScores(split, self._hierarchy.multiply(sigmoid(sum_views(logits, split.cases.views))))

    def _outputs(self, data: Dataset, ids: Mapping[str, list[str]]) -> dict[str, Path]:
        """Files that are there before the judgement."""
        names = {"weights": "best.safetensors", "splits": "splits.json", seen.OUTPUT: "seen.json"}
        if self.settings.labels.teacher is not None:
            names["relabelled"] = relabel.TABLE
        outputs = {name: self.run.dir / file for name, file in names.items()}
        seen.write_seen(outputs[seen.OUTPUT], data, ids, before=self._before)
        return outputs

    def _facts(self) -> dict[str, object]:
        return {
            "normalisation": {"mean": self.settings.input.mean, "std": self.settings.input.std},
            "world_size": self.fabric.world_size,
            "precision": precision_of(self.fabric),
        }


def _tell_cases(name: str, data: Dataset, cases: Cases) -> None:
    log.info("%s: %d images, %d cases", name, len(data.images), len(cases))
    for reason, count in count_reasons(cases.left_out).items():
        log.info("left out of %s: %d x %s", name, count, reason)
