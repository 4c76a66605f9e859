"""A finished classifier on images without labels: files in, one table out. An interrupted call can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.config import Settings, UserError
from cxr.imaging.cache import decode_each
from cxr.imaging.equalise import picture_of
from cxr.imaging.files import cut_region, read_pixels
from cxr.imaging.listing import ImageFile, Listing, default_out, find_images, fingerprint, refuse_inside
from cxr.imaging.network_input import NetImage
from cxr.imaging.pictures import Pictures
from cxr.imaging.problem_files import other_files, problem_line, problem_lines, report_problems
from cxr.imaging.shards import Shard, make_shards, remove_shards, shards_of
from cxr.json_lines import JsonLines, WholeLines
from cxr.labels import slug
from cxr.own_json import Shape
from cxr.progress import track
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.hardware import usual_device
from cxr.runs.run_folder import FinishedRun, Run, atomic_write_text, log, open_run, start_run
from cxr.spreadsheet_cells import inert
from cxr.tables import OnProblem
from cxr.wording import counted
from stage1_classify.evaluation.prediction_lines import line_shape, predicted_images
from stage1_classify.evaluation.predictions import thresholds_of
from stage1_classify.model.loading import Trained, load_trained

STAGE = "classifier_predictions"
SCRIPT = Path(__file__).parents[1] / "predict.py"

_BATCH = 64
"""Images that the network sees at a time. Parts begin at whole batches, because other batches round differently."""


@dataclass(frozen=True)
class Call:
    """What the user asked for. shard: the part of the images that this call takes; None means all."""

    run: Path
    images: tuple[Path, ...]
    out: Path | None = None
    on_problem: OnProblem = "error"
    shard: Shard | None = None


class CallSettings(Settings):
    """What identifies a call, so that the same command resumes an interrupted one."""

    images: tuple[str, ...]
    image_files: str
    """Fingerprint of the files' names, sizes and times."""
    shard: str = ""
    """I/N for a part of the images."""


@dataclass(frozen=True)
class Task:
    """A call with the run and the images that it names. out: where the results of all images go. listing: the images
    of this call, which may be a part of all."""

    call: Call
    source: FinishedRun
    out: Path
    listing: Listing

    @property
    def folder(self) -> Path:
        """Where the results of this call go."""
        return self.call.shard.folder(self.out) if self.call.shard else self.out

    @property
    def line_shape(self) -> type[Shape]:
        """See `line_shape`."""
        return line_shape(len(self.source.manifest["findings"]))

    def part(self, shard: Shard) -> "Task":
        """The same call for a part of its images."""
        return replace(self, call=replace(self.call, shard=shard), listing=shard.part_of(self.listing, unit=_BATCH))

    def start(self) -> Run:
        """Open the folder, see `start_run`."""
        shard = str(self.call.shard or "")
        settings = CallSettings(
            images=tuple(map(str, self.call.images)), image_files=fingerprint(self.listing), shard=shard
        )
        return start_run(self.folder, stage=STAGE, settings=settings, inputs={"classifier": self.call.run})


class _Decoded(NamedTuple):
    """Files that could be read, with a picture for each region that the network sees, and the others' problems."""

    files: list[ImageFile]
    pictures: list[NetImage]
    problems: list[tuple[str, str]]


def predict_images(call: Call) -> str:
    """Predict every image of `call` by itself; returns a summary in one line.

    The output folder holds predictions.csv (see `prediction_table`), for a classifier of one finding also
    submission.csv (image_id, prediction: 1 or 0), and manifest.json. All readable images are predicted before problems
    are reported. With `call.shard` the folder of the part holds predictions.jsonl instead, and problems are logged.

    Raises:
        UserError: an invalid call; unreadable files, all of them named (on_problem "error"); no readable file.
    """
    task = _task_of(call)
    run = task.start()
    if run.state != "finished":
        _predict(run, task)
    run.release()
    done = open_run(task.folder, stage=STAGE)
    return _part_summary(done) if call.shard else _report(done, call.on_problem)


def predict_in_shards(call: Call, count: int, cluster: ClusterSettings | None = None) -> str:
    """Predict every image of `call` in `count` parts, each by a process or a job of its own; the result has the bytes
    that `predict_images` writes. Parts that are finished are not made again.

    Raises:
        UserError: as `predict_images`; parts that failed, or that were made of other images.
    """
    whole = _task_of(call)
    run = whole.start()
    if run.state != "finished":
        shards = shards_of(whole.listing, count, unit=_BATCH)
        with run.phase(f"predictions in {len(shards)} shards"):
            make_shards(shards, lambda shard: _command(whole, shard), whole.out, cluster)
        parts = [whole.part(shard) for shard in shards]
        for part in parts:
            part.start().release()  # checks that it is of these images
        done = [open_run(part.folder, stage=STAGE) for part in parts]
        unreadable = [(path, problem) for one in done for path, problem in one.manifest["unreadable"]]
        lines = WholeLines([one.output("lines") for one in done], whole.line_shape)
        _finish(run, whole, lines, unreadable=unreadable)
    run.release()
    remove_shards(whole.out)
    return _report(open_run(whole.out, stage=STAGE), call.on_problem)


def _task_of(call: Call) -> Task:
    source = open_run(call.run, stage="stage1")
    listing = find_images(call.images)
    out = call.out or default_out(call.run, call.images)
    refuse_inside(out, call.images)
    task = Task(call, source, out, listing)
    return task.part(call.shard) if call.shard else task


def _command(whole: Task, shard: Shard) -> tuple[str, ...]:
    options = ("--out", str(whole.out), "--shard", str(shard))
    return (str(SCRIPT), *options, "--", str(whole.call.run), *map(str, whole.call.images))


def prediction_table(
    entries: Sequence[tuple[str, str]], probabilities: Floats, findings: Sequence[str], thresholds: Floats
) -> pd.DataFrame:
    """One row per image: image_id, file, then per finding ``<finding>`` (calibrated probability in [0, 1]) and
    ``<finding> call`` (1 from the operating point upwards, else 0; missing where the run has none).

    Args:
        entries: image_id and file of N images. probabilities: (N, K). thresholds: (K,), NaN for none.
    """
    ids, files = ([_printable(entry[place]) for entry in entries] for place in (0, 1))
    columns: dict[str, object] = {"image_id": ids, "file": files}
    for k, finding in enumerate(findings):
        called = np.where(np.isnan(thresholds[k]), np.nan, probabilities[:, k] >= thresholds[k])
        columns[finding] = probabilities[:, k]
        columns[f"{finding} call"] = pd.Series(called).astype("Int64")
    return pd.DataFrame(columns)


def _predict(run: Run, task: Task) -> None:
    trained = load_trained(task.source.dir).to(usual_device())
    name = "predictions.jsonl" if task.call.shard else "predictions.partial.jsonl"
    lines = JsonLines(run.dir / name, task.line_shape)
    done = predicted_images(lines, task.listing.files)
    waiting = [file for file in task.listing.files if file.image_id not in done]
    if done:
        log.info("%d images are already done", len(done))
    unreadable: list[tuple[str, str]] = []
    with run.phase(f"predictions of {len(waiting)} images"):
        batches = [waiting[start : start + _BATCH] for start in range(0, len(waiting), _BATCH)]
        for files in track(batches, "predicting", images_in=len):
            decoded = _decode(files, trained)
            unreadable += decoded.problems
            if not decoded.files:
                continue
            for file, row in zip(decoded.files, _probabilities(decoded, trained).tolist(), strict=True):
                lines.append({"image_id": file.image_id, "file": file.file_name, "probabilities": row})
    if task.call.shard:
        lines.path.touch()  # a part may have no readable image
        counts = {"images": len(task.listing.files) - len(unreadable), "unreadable": len(unreadable)}
        run.finish(counts, {"lines": lines.path}, unreadable=[list(entry) for entry in unreadable])
        return
    _finish(run, task, lines, unreadable=unreadable)
    lines.path.unlink(missing_ok=True)


def _decode(files: Sequence[ImageFile], trained: Trained) -> _Decoded:
    settings, regions = trained.settings.input, trained.regions

    def work(row: int) -> list[NetImage] | str:
        try:
            image = read_pixels(files[row].path)
            return [picture_of(cut_region(image, region), settings) for region in regions]
        except (UserError, OSError) as error:
            return problem_line(error)

    decoded = _Decoded([], [], [])
    for row, result in decode_each(work, range(len(files)), progress=False):
        if isinstance(result, str):
            decoded.problems.append((str(files[row].path), result))
        else:
            decoded.files.append(files[row])
            decoded.pictures.extend(result)
    return decoded


def _probabilities(decoded: _Decoded, trained: Trained) -> Floats:
    """(N, K): of an image in several regions the highest."""
    pictures = Pictures.of(decoded.pictures, trained.settings.input)
    device = next(trained.members[0].model.parameters()).device
    values = trained.probabilities_of(trained.logits(pictures, device=device))
    return np.asarray(values.reshape(len(decoded.files), len(trained.regions), -1).max(axis=1))


def _finish(run: Run, task: Task, lines: JsonLines | WholeLines, *, unreadable: list[tuple[str, str]]) -> None:
    source, listing = task.source, task.listing
    findings: list[str] = source.manifest["findings"]
    predicted_images(lines, listing.files)
    order = {file.image_id: place for place, file in enumerate(listing.files)}
    entries = sorted(lines, key=lambda line: order[line["image_id"]])
    probabilities = np.array([line["probabilities"] for line in entries]).reshape(-1, len(findings))
    names = [(line["image_id"], line["file"]) for line in entries]
    table = prediction_table(names, probabilities, findings, thresholds_of(source, findings))
    outputs = {"predictions": _write_csv(run.dir / "predictions.csv", table)}
    if len(findings) == 1:
        short = table[["image_id", f"{findings[0]} call"]].set_axis(["image_id", "prediction"], axis=1)
        outputs["submission"] = _write_csv(run.dir / "submission.csv", short)
    called = {f"called/{slug(name)}": float(table[f"{name} call"].fillna(0).sum()) for name in findings}
    counts = {"images": len(table), "unreadable": len(unreadable), "other_files": listing.num_other}
    run.finish(
        {**counts, **called},
        outputs,
        findings=findings,
        thresholds=source.manifest["thresholds"],
        synthetic=source.manifest.get("synthetic"),
        first_other_files=list(listing.first_others),
        unreadable=[list(entry) for entry in unreadable],
    )


def _printable(name: str) -> str:
    """Bytes of a file name that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_csv(path: Path, table: pd.DataFrame) -> Path:
    atomic_write_text(path, table.map(inert).to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    return path


def _part_summary(done: FinishedRun) -> str:
    for line in problem_lines(done.manifest["unreadable"]):
        log.warning("%s", line)
    return f"shard {done.settings['shard']}: {_counts(done)} -> {done.output('lines')}"


def _report(done: FinishedRun, on_problem: OnProblem) -> str:
    num_images, num_others = (int(done.metrics[name] or 0) for name in ("images", "other_files"))
    others = other_files(num_others, done.manifest.get("first_other_files", []))  # older runs do not name them
    summary = f"{_counts(done)}{others} -> {done.output('predictions')}"
    end = f"not all files could be read. {summary}"
    report_problems(problem_lines(done.manifest["unreadable"]), end, on_problem=on_problem, num_images=num_images)
    return summary


def _counts(done: FinishedRun) -> str:
    images, unreadable = (int(done.metrics[name] or 0) for name in ("images", "unreadable"))
    left_out = f"; {counted(unreadable, 'unreadable file')} excluded" if unreadable else ""
    return f"{counted(images, 'image')} predicted{left_out}"
