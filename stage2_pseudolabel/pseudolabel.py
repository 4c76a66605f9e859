"""The work of stage 2, in order: data, maps, rules, leaderboard, pseudo-labels, report."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cxr.coco import CocoBoxes, write_coco
from cxr.config import UserError
from cxr.datasets.tables import Dataset, count_reasons
from cxr.runs import Run, open_run
from cxr.splits import check_no_leak, fingerprint, load_splits
from stage1_classify.config import Stage1Settings
from stage1_classify.inputs.pictures import Pictures, decodable_splits
from stage1_classify.loading import load_trained
from stage1_classify.seen import check_unseen, read_seen
from stage2_pseudolabel.config import BoxSettings, Stage2Settings
from stage2_pseudolabel.export import PseudoLabels, pseudo_labels
from stage2_pseudolabel.leaderboard import Board, Entry, make_board, score_entry, verdict
from stage2_pseudolabel.maps import SplitMaps, Teacher, split_maps
from stage2_pseudolabel.priors import CENTER_BOX, mean_boxes, prior_detections
from stage2_pseudolabel.summary import write_summary
from stage2_pseudolabel.timing import measure_methods
from stage2_pseudolabel.truth import findings_to_score, ground_truth
from stage2_pseudolabel.tuning import Frame, Scored, detect, mean_of, tune_rules

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Part:
    """A split of the box data: its images, true boxes, pictures, maps and probabilities of the scored findings."""

    data: Dataset
    truth: CocoBoxes
    pictures: Pictures
    maps: SplitMaps


class Stage2:
    """Settings, run folder and teacher of one run."""

    def __init__(self, run: Run, settings: Stage2Settings, source: Path) -> None:
        self.run, self.settings, self.source = run, settings, source
        trained = load_trained(source).to("cuda" if torch.cuda.is_available() else "cpu")
        self.stage1 = trained.settings
        self.teacher = Teacher(trained, settings.cam)
        self.frame = Frame(self.stage1.input.size_hw, self.stage1.input.keep_aspect)

    def __call__(self) -> Board:
        """Do everything and finish the run."""
        with self.run.phase("reading the box data"):
            data, splits = self._read_box_data()
            tune_data, test_data = data.select(splits["tune"]), data.select(splits["test"])
            findings = findings_to_score(
                self.settings.findings, self.stage1.findings, tune_data, source=self.source
            )
        with self.run.phase("maps of the tune and test split"):
            tune = self._part(tune_data, findings, "tune")
            test = self._part(test_data, findings, "test")
        if test.truth.boxes.empty:
            raise UserError(
                f"split: no box of {', '.join(findings)} in the test part; there is nothing to score"
            )
        with self.run.phase("time and memory of each method"):
            timing = measure_methods(
                self.teacher, test.pictures, self.settings.methods, num_images=self.settings.max_timing_images
            )
        with self.run.phase("box rules on the tune split, scores on the test split"):
            board = self._leaderboard(tune, test)
        with self.run.phase("pseudo-labels of the training images"):
            pseudo = self._export(board.best, findings)
        self._finish(board, pseudo, (tune, test), timing, splits)
        return board

    def _read_box_data(self) -> tuple[Dataset, dict[str, list[str]]]:
        data = self.settings.data.read()
        data, splits = decodable_splits(
            data,
            self.settings.split.make(data),
            self.stage1.input,
            on_problem=self.settings.data.on_problem,
            progress=True,
        )
        missing = [name for name in ("tune", "test") if not splits.get(name)]
        if missing:
            raise UserError(f"split: no images in {' and '.join(missing)}; it gives {', '.join(splits)}")
        check_no_leak(data, splits)
        seen = read_seen(self.source)
        check_unseen(seen, data, splits["tune"], split="tune", by=["train"])
        check_unseen(seen, data, splits["test"], split="test", by=["train", "val"])
        return data, splits

    def _part(self, data: Dataset, findings: tuple[str, ...], name: str) -> Part:
        truth = ground_truth(data, findings, self.settings.readers, split=name)
        marked = int(data.boxes["finding"].isin(findings).sum())
        log.info(
            "%s: %d images, %d true boxes from %d that readers marked",
            name,
            len(data.images),
            len(truth.boxes),
            marked,
        )
        pictures = Pictures(data, self.stage1.input, progress=True)
        return Part(data, truth, pictures, self._maps(pictures, self.settings.methods, findings, name))

    def _maps(
        self, pictures: Pictures, methods: list[str], findings: tuple[str, ...], name: str
    ) -> SplitMaps:
        """Maps with the columns of the scored findings."""
        all_maps = split_maps(self.teacher, pictures, methods, folder=self.run.dir / "maps", name=name)
        columns = [self.teacher.findings.index(finding) for finding in findings]
        maps = {method: values[:, columns] for method, values in all_maps.maps.items()}
        return SplitMaps(maps, all_maps.probabilities[:, columns])

    def _leaderboard(self, tune: Part, test: Part) -> Board:
        boxes = self.settings.boxes
        entries = [self._entry(name, name, boxes, tune=tune, test=test) for name in self.settings.methods]
        fixed = {"prior_mean_box": mean_boxes(tune.truth)}
        fixed["prior_center_box"] = dict.fromkeys(test.truth.findings, CENTER_BOX)
        for name, box_of in fixed.items():
            found = prior_detections(test.truth, box_of, test.maps.probabilities)
            entries.append(score_entry(name, test.truth, test.truth.with_boxes(found), tune_ap=float("nan")))
        if "bayes" in boxes.rules:
            without_map = boxes.model_copy(update={"rules": ["bayes"], "bayes_betas": [0.0]})
            first = self.settings.methods[0]  # any: beta 0 looks at no map
            entries.append(self._entry("prior_no_map", first, without_map, tune=tune, test=test))
        return make_board(
            entries,
            test.truth,
            test.truth.groups,
            num_resamples=self.settings.num_resamples,
            seed=self.settings.seed,
        )

    def _entry(self, name: str, method: str, settings: BoxSettings, *, tune: Part, test: Part) -> Entry:
        """The row `name`: boxes from the maps of `method` by the rules that are best on the tune split."""
        tune_scored = Scored(tune.maps.maps[method], tune.maps.probabilities)
        rules, tune_aps = tune_rules(tune_scored, tune.truth, settings, frame=self.frame)
        test_scored = Scored(test.maps.maps[method], test.maps.probabilities)
        found = detect(test_scored, test.truth, rules, frame=self.frame)
        entry = score_entry(
            name, test.truth, test.truth.with_boxes(found), tune_ap=mean_of(tune_aps), rules=rules
        )
        log.info("%-20s AP40 tune %.3f  test %.3f", name, entry.tune_ap, entry.result.mean_ap(0.4))
        return entry

    def _export(self, best: Entry, findings: tuple[str, ...]) -> PseudoLabels:
        train = training_images(self.stage1, self.source, self.settings.pseudo_labels.max_images)
        pictures = Pictures(train, self.stage1.input, progress=True)
        maps = self._maps(pictures, [best.name], findings, "train")
        pseudo = pseudo_labels(
            train, maps, best, frame=self.frame, min_probability=self.settings.pseudo_labels.min_probability
        )
        for reason, count in count_reasons(pseudo.excluded).items():
            log.info("left out of the pseudo-labels: %d images, %s", count, reason)
        return pseudo

    def _finish(
        self,
        board: Board,
        pseudo: PseudoLabels,
        parts: tuple[Part, Part],
        timing: Mapping[str, float],
        splits: Mapping[str, list[str]],
    ) -> None:
        (tune, test), trained = parts, self.teacher.trained
        boxes = {"gt_tune": tune.truth, "gt_test": test.truth, "pseudo_labels": pseudo.coco}
        boxes |= {f"detections_{entry.name}": entry.detections for entry in board.entries}
        outputs = {name: self.run.dir / "coco" / f"{name}.json" for name in boxes}
        for name, coco in boxes.items():
            write_coco(outputs[name], coco)
        outputs["excluded"] = self.run.dir / "excluded.json"
        excluded = [
            *self._exclusions(tune.data),
            *({"what": e.what, "reason": e.reason} for e in pseudo.excluded),
        ]
        outputs["excluded"].write_text(json.dumps(excluded, indent=1) + "\n", encoding="utf-8")
        outputs["report"] = write_summary(
            self.run.dir, board, pseudo, test=(test.truth, test.maps, test.pictures), timing=timing
        )
        self.run.finish(
            {**board.metrics, **timing},
            outputs,
            best_method=board.best.name,
            chosen_on="tune",
            box_rules=_rules_of(board),
            verdict=verdict(board),
            findings=list(test.truth.findings),
            splits={name: fingerprint(ids) for name, ids in splits.items()},
            classifier={"members": len(trained.members), "combine": trained.combine, "flips": trained.flips},
            synthetic=test.data.synthetic,
            seed=self.settings.seed,
        )

    def _exclusions(self, data: Dataset) -> list[dict[str, str]]:
        return [{"what": item.what, "reason": item.reason} for item in data.excluded]


def training_images(stage1: Stage1Settings, source: Path, max_images: int | None) -> Dataset:
    """The frontal images of the training split that the classifier was trained on."""
    data = stage1.data.read()
    splits = load_splits(open_run(source, stage="stage1").output("splits"))
    train = data.select(splits["train"])
    frontal = train.images.loc[train.images["view"] != "lateral", "image_id"].tolist()
    if len(frontal) < len(train.images):
        log.info("pseudo-labels: %d lateral images left out", len(train.images) - len(frontal))
    if max_images is not None and max_images < len(frontal):
        log.info(
            "pseudo-labels: a sample of %d of %d images (pseudo_labels.max_images)", max_images, len(frontal)
        )
        frontal = sorted(np.random.default_rng(0).choice(frontal, max_images, replace=False).tolist())
    return train.select(frontal)


def _rules_of(board: Board) -> dict[str, dict[str, dict[str, str | float]]]:
    """Method -> finding -> rule."""
    return {
        entry.name: {
            finding: rule.as_dict() for finding, rule in zip(entry.result.findings, entry.rules, strict=True)
        }
        for entry in board.entries
        if entry.rules
    }
