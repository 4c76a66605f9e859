"""A finished classifier on another labelled data set: the same figures and report as on its own test split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cxr.config import UserError
from cxr.datasets import make_splits
from cxr.datasets.own_names import read_data
from cxr.imaging.pictures import decodable
from cxr.imaging.settings import InputSettings
from cxr.runs.hardware import usual_device
from cxr.runs.label_files import terms_of
from cxr.runs.run_folder import FinishedRun, Run, log, open_run, start_run
from cxr.tables import Dataset, count_reasons
from eval.classification.calibration import Calibration
from stage1_classify.data.batches import Split
from stage1_classify.data.studies import sum_views
from stage1_classify.evaluation.evaluate import evaluation_metrics, evaluation_split, write_evaluation
from stage1_classify.evaluation.predictions import Evidence, RawScores, Scored, thresholds_of
from stage1_classify.evaluation.report import ReportFacts
from stage1_classify.model import seen_images
from stage1_classify.model.loading import Trained, is_ensemble, load_trained
from stage1_classify.model.probabilities import calibration_of
from stage1_classify.model.seen_patients import read_seen, without_seen
from stage1_classify.settings.classifier import OperatingPointSettings, Stage1Settings
from stage1_classify.settings.labelled_set import ALL, LabelledSetSettings

STAGE = "classifier_evaluation"


def evaluate_elsewhere(source_dir: Path, settings: LabelledSetSettings, *, out: Path) -> FinishedRun:
    """Evaluate the classifier in `source_dir` on a labelled data set, and write a run folder to `out`.

    Patients that the classifier has seen in training or validation are excluded and counted, and so are copies of
    images that it has seen. Only findings that both know are evaluated.

    Raises:
        UserError: not a finished classifier, or no finding or no image to evaluate it on.
    """
    source = open_run(source_dir, stage="stage1")
    run = start_run(out, stage=STAGE, settings=settings, inputs={"classifier": source_dir})
    if run.state != "finished":
        _evaluate(run, source, settings)
    run.release()
    return open_run(out, stage=STAGE)


def _evaluate(run: Run, source: FinishedRun, settings: LabelledSetSettings) -> None:
    trained = load_trained(source.dir)
    with run.phase("reading the data"):
        data = _read_data(settings, trained, source)
        own = _settings_here(source, trained.settings, settings, data)
    with run.phase("evaluation"):
        split = evaluation_split(data, own, progress=True)
        test = _scored(source, trained, split, own.findings)
        evidence = Evidence(
            data,
            {"test": data.images["image_id"].tolist()},
            None,
            RawScores(test.split, test.raw),
            members=[str(source.dir / folder) for folder in source.manifest.get("members", [])],
            combine=trained.combine,
            classifier=str(source.dir),
        )
        thresholds = thresholds_of(source, own.findings)
        metrics = evaluation_metrics(test, thresholds, own)
        calibration = _calibration(source, trained, own.findings)
        report = ReportFacts(
            evidence, metrics, val=None, test=test, thresholds=thresholds, calibration=calibration, phases=run.phases
        )
        left_out = [name for name in trained.settings.findings if name not in own.findings]
        facts = {"data_set": data.name, "part": _part(settings), "findings_without_labels": left_out}
        write_evaluation(run, own, report, outputs={}, facts=facts)


def _read_data(settings: LabelledSetSettings, trained: Trained, source: FinishedRun) -> Dataset:
    """The images to evaluate, with the labels that the classifier's settings name, as far as there are any."""
    data, known = read_data(settings.data, terms_of(source)), trained.settings.findings
    common = [name for name in known if name in data.findings]
    if not common:
        raise UserError(
            f"findings: {data.name} has labels of {', '.join(data.findings) or 'nothing'}, the classifier knows "
            f"{', '.join(known)}; give a data set with one of these"
        )
    regions = sorted(set(data.images["region"]) - set(trained.regions))
    if regions:
        raise UserError(
            f"data: {data.name} has images of the region {', '.join(regions)}, the classifier was trained on "
            f"{', '.join(trained.regions)}; give the data set the layout of the classifier's"
        )
    part = data.select(_part_ids(settings, data))
    part = without_seen(read_seen(source.dir), part, by=["train", "val"])
    wanted = [name for name in trained.settings.label_columns if name in data.findings]
    data = replace(part, labels=part.labels[wanted])
    data = decodable(data, trained.settings.input, on_problem=settings.data.on_problem, progress=True)
    data = _without_copies(data, source, trained.settings.input)
    for reason, count in count_reasons(data.excluded).items():
        log.info("excluded from %s: %d x %s", data.name, count, reason)
    return data


def _without_copies(data: Dataset, source: FinishedRun, settings: InputSettings) -> Dataset:
    """The data set without copies of images that the classifier has seen; they are added to `excluded`."""
    seen = seen_images.read_seen_images(source.dir)
    if seen.empty:
        return data
    hashes = seen_images.content_hashes(data, settings, progress=True)
    part = {"test": data.images["image_id"].tolist()}
    left, _ = seen_images.without_copies(data, part, {"test": seen}, hashes, on_problem="exclude")
    if left.images.empty:
        raise UserError(
            f"data: all {len(data.images)} images of {data.name} are copies of images that the classifier has seen; "
            "give images that are new to it"
        )
    return left


def _part_ids(settings: LabelledSetSettings, data: Dataset) -> list[str]:
    if _part(settings) == ALL or settings.split is None:
        return data.images["image_id"].tolist()
    splits = make_splits(data, settings.split, settings.data)
    if not splits.get(settings.part):
        raise UserError(
            f"part: {data.name} has no images in {settings.part!r}; it has {', '.join(filter(splits.get, splits))}, "
            f"or give {ALL}"
        )
    return splits[settings.part]


def _part(settings: LabelledSetSettings) -> str:
    return ALL if settings.split is None else settings.part


def _settings_here(
    source: FinishedRun, classifier: Stage1Settings, settings: LabelledSetSettings, data: Dataset
) -> Stage1Settings:
    """The classifier's settings with the data and findings that it is evaluated on; an ensemble has its own operating
    point and seed."""
    own = {
        "data": settings.data,
        "labels": settings.labels,
        "findings": [name for name in classifier.findings if name in data.findings],
        "subgroups": [name for name in classifier.subgroups if name in data.findings],
        "operating_point": OperatingPointSettings.model_validate(source.settings["operating_point"]),
        "seed": source.settings["seed"],
    }
    return classifier.model_copy(update=own)


def _scored(source: FinishedRun, trained: Trained, split: Split, findings: Sequence[str]) -> Scored:
    device = usual_device()
    by_image = trained.logits(split.pictures, device=device, progress=True)
    each = [sum_views(logits, split.cases.views) for logits in by_image]
    # a single run has its calibration in its member
    raw = trained.raw(each) if is_ensemble(source) else trained.members[0].probabilities.raw(each[0])
    columns = [trained.settings.findings.index(name) for name in findings]
    probabilities = calibration_of(source, num_findings=raw.shape[1]).apply(raw)
    return Scored(split, raw[:, columns], probabilities[:, columns])


def _calibration(source: FinishedRun, trained: Trained, findings: Sequence[str]) -> Calibration:
    """The classifier's calibration of these findings."""
    whole = calibration_of(source, num_findings=len(trained.settings.findings))
    return Calibration(whole.kind, tuple(whole.curves[trained.settings.findings.index(name)] for name in findings))
