"""The images of one call in several parts, each by a process or a job of its own, and their results as one.

The result has the bytes that a single call writes.
"""

from dataclasses import replace
from pathlib import Path

from cxr.imaging.shards import Shard, make_shards, remove_shards, shards_of
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.run_folder import FinishedRun, Run, open_run
from stage3_detect.export.formats import PYTORCH, preferred_format
from stage3_detect.prediction.call import STAGE, Call, Task, task_of
from stage3_detect.prediction.coco_stream import finished_lines
from stage3_detect.prediction.files import Problems, finish, report

SCRIPT = Path(__file__).parents[1] / "predict.py"


def predict_in_shards(call: Call, count: int, cluster: ClusterSettings | None = None) -> str:
    """Find boxes on every image of `call` in `count` parts; returns a summary in one line.

    Parts that are finished, also by calls with ``--shard``, are not made again.

    Raises:
        UserError: as `predict_files`; parts that failed, or that were made of other images or with other settings.
    """
    if cluster is not None and call.format is None:  # the machines of the jobs may have other devices than this one
        source = open_run(call.run, stage="stage3")
        call = replace(call, format=PYTORCH if cluster.gpus else preferred_format(source, device="cpu"))
    whole = task_of(call)
    run = whole.start()
    if run.state != "finished":
        shards = shards_of(whole.listing, count)
        with run.phase(f"boxes in {len(shards)} shards"):
            make_shards(shards, lambda shard: _command(whole, shard), whole.out, cluster)
        _merge(run, whole, [_checked(whole.part(shard)) for shard in shards])
    run.release()
    remove_shards(whole.out)
    return report(open_run(whole.out, stage=STAGE), call.on_problem)


def _command(whole: Task, shard: Shard) -> tuple[str, ...]:
    call = whole.call
    options = {
        "--out": whole.out,
        "--shard": shard,
        "--format": whole.format,
        "--device": call.device,
        "--points": call.points,
        "--dicom": call.dicom,
        "--sr-class": call.sr_class,
        "--capture": call.capture,
        "--quality-gate": call.quality_gate,
    }
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    pictures = [] if call.pictures else ["--no-pictures"]
    return (str(SCRIPT), *given, *pictures, "--", str(call.run), *map(str, call.images))


def _checked(part: Task) -> FinishedRun:
    """A finished part; UserError where it was made of other images or with other settings."""
    part.start().release()
    return open_run(part.folder, stage=STAGE)


def _merge(run: Run, whole: Task, parts: list[FinishedRun]) -> None:
    problems = Problems(
        [tuple(entry) for part in parts for entry in part.manifest["unreadable"]],
        [tuple(entry) for part in parts for entry in part.manifest["without_dicom_results"]],
    )
    with run.phase("one result of all shards"):
        for part in parts:
            _move_pictures(part.dir / "pictures", run.dir / "pictures")
    lines = finished_lines([part.output("lines") for part in parts], {file.image_id for file in whole.listing.files})
    finish(run, whole, lines, findings=parts[0].manifest["findings"], problems=problems)


def _move_pictures(source: Path, target: Path) -> None:
    """Move all files; those that an interrupted call moved are there already."""
    for path in sorted(source.rglob("*.png")):
        moved = target / path.relative_to(source)
        moved.parent.mkdir(parents=True, exist_ok=True)
        path.replace(moved)
