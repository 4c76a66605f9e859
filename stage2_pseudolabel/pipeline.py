"""The work of stage 2, in order: data, maps, evaluation, pseudo-labels, report."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr.coco import CocoBoxes, write_coco
from cxr.imaging.pictures import Pictures, decodable
from cxr.runs.run_folder import Run, open_run
from cxr.splits import fingerprint, load_splits
from cxr.tables import Dataset, Exclusion, count_reasons
from eval.leaderboard.files import write_leaderboard
from eval.leaderboard.leaderboard import Leaderboard
from stage1_classify.model.loading import load_trained
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.truth import check_boxes, findings_to_score, ground_truth
from stage2_pseudolabel.cam.methods import choose_methods
from stage2_pseudolabel.cam.stages import choose_stages
from stage2_pseudolabel.cam_maps.processes import Processes
from stage2_pseudolabel.cam_maps.store import SplitMaps, split_maps
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.evaluation.evaluate import Evaluation, Evaluator
from stage2_pseudolabel.evaluation.example_files import write_examples
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.report import write_cam_report
from stage2_pseudolabel.evaluation.timing import measure_methods
from stage2_pseudolabel.evaluation.verdict import verdict
from stage2_pseudolabel.pseudolabels.box_data import Part, make_part, read_box_data
from stage2_pseudolabel.pseudolabels.export import PseudoLabels, Recipe, judged_by_truth, pseudo_labels
from stage2_pseudolabel.pseudolabels.gallery import pseudo_blocks
from stage2_pseudolabel.pseudolabels.makers import BoxMakers
from stage2_pseudolabel.pseudolabels.tune_statistics import learn_from_tune
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


def run(run: Run, settings: Stage2Settings, source: Path, processes: Processes) -> None:
    """Score the CAM methods of the classifier in `source`, export pseudo-labels and finish `run`."""
    Stage2(run, settings, source, processes)()


class Stage2:
    """Settings, run folder, teacher and processes of one run."""

    def __init__(self, run: Run, settings: Stage2Settings, source: Path, processes: Processes) -> None:
        check_methods(settings)
        self.run, self.settings, self.source, self.processes = run, settings, source, processes
        trained = load_trained(source).to(processes.device)
        self.stage1 = trained.settings
        self.teacher = Teacher(trained, settings.cam, settings.teacher)
        check_stages(self.teacher, settings)
        self.frame = Frame(self.stage1.input.size_hw, self.stage1.input.keep_aspect, self.teacher.shift_hw())

    def __call__(self) -> None:
        """Run all steps. All processes make maps; the first one evaluates, exports and finishes the run."""
        with self.run.phase("reading the box data"):
            data, splits = read_box_data(self.settings, self.stage1, self.source, progress=self.processes.is_first)
            findings = findings_to_score(
                self.settings.findings, self.stage1.findings, data.select(splits["tune"]), source=self.source
            )
        with self.run.phase("maps of the tune and test split"):
            parts = tuple(self._part(data.select(splits[name]), findings, name) for name in ("tune", "test"))
        evaluation = self._evaluate(*parts) if self.processes.is_first else None
        wanted = self.processes.from_first(self._exported_methods(evaluation))
        with self.run.phase("maps of the training images"):
            train = decodable(
                training_images(self.stage1, self.source, self.settings.pseudo_labels.max_images),
                self.stage1.input,
                on_problem=self.stage1.data.on_problem,
            )
            pictures = Pictures(train, self.stage1.input, progress=self.processes.is_first)
            maps = self._maps(pictures, wanted, findings, "train")
        if evaluation is not None:
            with self.run.phase("pseudo-labels and report"):
                pseudo = self._export(evaluation, parts[0], train, maps)
                self._finish(evaluation, pseudo, parts, splits, left_out=train.excluded)
        self.processes.wait()

    def _part(self, data: Dataset, findings: tuple[str, ...], name: str) -> Part:
        truth = ground_truth(data, findings, self.settings.readers, split=name)
        marked = int(data.boxes["finding"].isin(findings).sum())
        check_boxes(truth, marked, self.settings.readers, split=name)
        if self.processes.is_first:
            log.info(
                "%s: %d images, %d true boxes from %d that readers marked",
                name,
                len(data.images),
                len(truth.boxes),
                marked,
            )
        pictures = Pictures(data, self.stage1.input, progress=self.processes.is_first)
        maps = self._maps(pictures, self.settings.methods, findings, name)
        return make_part(data, pictures, maps, truth=truth, stage1=self.stage1)

    def _maps(self, pictures: Pictures, methods: Sequence[str], findings: tuple[str, ...], name: str) -> SplitMaps:
        """Maps with the columns of the scored findings."""
        maps = split_maps(
            self.teacher, pictures, methods, folder=self.run.dir / "maps", name=name, processes=self.processes
        )
        return maps.select(columns=[self.teacher.findings.index(finding) for finding in findings])

    def _evaluate(self, tune: Part, test: Part) -> Evaluation:
        with self.run.phase("box rules on the tune split, scores on the test split"):
            evaluation = Evaluator(self.settings, self.frame, tune, test)()
        with self.run.phase("time and memory of each method"):
            timing = measure_methods(
                self.teacher, test.pictures, self.settings.methods, num_images=self.settings.max_timing_images
            )
        return replace(evaluation, timing=timing)

    def _exported_methods(self, evaluation: Evaluation | None) -> list[str]:
        """The methods whose maps of the training images are needed; the first process knows."""
        if evaluation is None:
            return []
        return list(dict.fromkeys(evaluation.board.main.methods))

    def _export(self, evaluation: Evaluation, tune: Part, train: Dataset, maps: SplitMaps) -> PseudoLabels:
        settings, board = self.settings.pseudo_labels, evaluation.board
        makers = self._makers(board.main)
        facts = learn_from_tune(makers, tune.maps, tune.truth)
        pseudo = pseudo_labels(train, maps, Recipe(makers, facts, settings))
        for reason, count in count_reasons(pseudo.excluded).items():
            log.info("left out of the pseudo-labels: %d images, %s", count, reason)
        if pseudo.coco.is_ignored.all():  # also of no box at all
            log.warning(
                "no training image has a pseudo-box, so stage 3 has nothing to learn from; look at the labels, "
                "pseudo_labels and the reasons in excluded.json"
            )
        return judged_by_truth(
            pseudo,
            self._training_truth(train, maps, makers.findings),
            num_resamples=self.settings.num_resamples,
            seed=self.settings.seed,
        )

    def _training_truth(self, train: Dataset, maps: SplitMaps, findings: tuple[str, ...]) -> CocoBoxes | None:
        """True boxes of the training images that could be used, where the data has any."""
        if train.boxes.empty:
            return None
        bad = {item.what for item in maps.bad}
        usable = train.select(image_id for image_id in train.images["image_id"] if image_id not in bad)
        return ground_truth(usable, findings, self.settings.readers, split="train")

    def _makers(self, entry: CamEntry) -> BoxMakers:
        assert entry.tuned is not None, f"{entry.name} has no rules"
        return BoxMakers(entry.ap40.findings, entry.methods, entry.tuned.rules, self.frame)

    def _finish(
        self,
        evaluation: Evaluation,
        pseudo: PseudoLabels,
        parts: tuple[Part, ...],
        splits: Mapping[str, list[str]],
        *,
        left_out: Sequence[Exclusion],
    ) -> None:
        (tune, test), board, trained = parts, evaluation.board, self.teacher.trained
        excluded = [*tune.data.excluded, *tune.maps.bad, *test.maps.bad, *left_out, *pseudo.excluded]
        outputs = self._box_files(board, pseudo, tune, test)
        outputs |= write_leaderboard(self.run.dir, board, evaluation.timing)
        outputs["examples"] = write_examples(self.run.dir, evaluation.test, board.main)
        outputs["excluded"] = write_excluded(self.run.dir / "excluded.json", excluded)
        pages = pseudo_blocks(self.run.dir, pseudo)
        outputs["report"] = write_cam_report(self.run.dir, evaluation, pages)
        quality = {} if pseudo.quality is None else pseudo.quality.metrics()
        calibration = {} if pseudo.calibration is None else pseudo.calibration.metrics()
        self.run.finish(
            {**evaluation.metrics, **calibration, **quality},
            outputs,
            best_method=board.main.name,
            methods_by_finding=dict(zip(test.truth.findings, board.main.methods, strict=True)),
            chosen_on="tune",
            box_rules=rules_of(board),
            verdict=" ".join(verdict(board)),
            findings=list(test.truth.findings),
            splits={name: fingerprint(ids) for name, ids in splits.items()},
            classifier={"members": len(trained.members), "combine": trained.combine, "flips": trained.flips},
            map_shift_hw=self.frame.shift_hw,
            processes=self.processes.count,
            synthetic=test.data.synthetic,
            seed=self.settings.seed,
        )

    def _box_files(self, board: Leaderboard[CamEntry], pseudo: PseudoLabels, tune: Part, test: Part) -> dict[str, Path]:
        boxes = {"gt_tune": tune.truth, "gt_test": test.truth, "pseudo_labels": pseudo.coco}
        if pseudo.truth is not None:
            boxes["gt_train"] = pseudo.truth
        boxes |= {f"detections_{entry.name}": entry.detections for entry in board.entries}
        outputs = {name: self.run.dir / "coco" / f"{name}.json" for name in boxes}
        for name, coco in boxes.items():
            write_coco(outputs[name], coco)
        return outputs


def check_methods(settings: Stage2Settings) -> None:
    """UserError for an unknown method."""
    choose_methods(settings.methods)


def check_stages(teacher: Teacher, settings: Stage2Settings) -> None:
    """UserError when layercamfusion is to fuse stages that a network of the classifier does not have."""
    if "layercamfusion" in settings.methods:
        for view in teacher.member_views:
            choose_stages(view.network.backbone, settings.cam.layercam_stages)


def training_images(stage1: Stage1Settings, source: Path, max_images: int | None) -> Dataset:
    """The frontal images of the training split that the classifier was trained on."""
    data = stage1.data.read()
    splits = load_splits(open_run(source, stage="stage1").output("splits"))
    train = data.select(splits["train"])
    frontal = train.images.loc[train.images["view"] != "lateral", "image_id"].tolist()
    if len(frontal) < len(train.images):
        log.info("pseudo-labels: %d lateral images left out", len(train.images) - len(frontal))
    if max_images is not None and max_images < len(frontal):
        log.info("pseudo-labels: a sample of %d of %d images (pseudo_labels.max_images)", max_images, len(frontal))
        frontal = sorted(np.random.default_rng(0).choice(frontal, max_images, replace=False).tolist())
    return train.select(frontal)


def write_excluded(path: Path, excluded: Sequence[Exclusion]) -> Path:
    """Everything that was left out, with its reason, as JSON."""
    rows = [{"what": item.what, "reason": item.reason} for item in dict.fromkeys(excluded)]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return path


def rules_of(board: Leaderboard[CamEntry]) -> dict[str, dict[str, dict[str, str | float]]]:
    """Method -> finding -> rule, in plain values for the manifest."""
    return {
        entry.name: {
            finding: rule.as_dict() for finding, rule in zip(entry.ap40.findings, entry.tuned.rules, strict=True)
        }
        for entry in board.entries
        if entry.tuned is not None
    }
