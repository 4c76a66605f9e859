"""What a user of `predict.py` asks for, and the images that this means."""

from dataclasses import dataclass, replace
from pathlib import Path

from cxr.config import Settings
from cxr.imaging.listing import Listing, default_out, find_images, fingerprint, refuse_inside
from cxr.imaging.shards import Shard
from cxr.runs.run_folder import FinishedRun, Run, open_run, start_run
from cxr.tables import OnProblem
from eval.detection.points import OperatingPoint, with_measured
from stage3_detect.export.formats import preferred_format
from stage3_detect.image_quality.verdict import DEFAULT_MODE, GateMode
from stage3_detect.model.torch_network import pick_device
from stage3_detect.prediction.dicom_files import Capture, SrClass
from stage3_detect.prediction.points import open_point

STAGE = "predictions"


@dataclass(frozen=True)
class Call:
    """What the user asked for. format: None means `preferred_format`. points: None means the run's own operating
    point. shard: the part of the images that this call takes; None means all."""

    run: Path
    images: tuple[Path, ...]
    out: Path | None = None
    format: str | None = None
    device: str = "auto"
    points: str | None = None
    on_problem: OnProblem = "error"
    pictures: bool = True
    dicom: Path | None = None
    sr_class: SrClass = "comprehensive"
    capture: Capture = "colour"
    quality_gate: GateMode = DEFAULT_MODE
    shard: Shard | None = None


class CallSettings(Settings):
    """What identifies a call, so that the same command resumes an interrupted one."""

    images: tuple[str, ...]
    image_files: str
    """Fingerprint of the files' names, sizes and times."""
    shard: str = ""
    """I/N for a part of the images."""
    format: str
    points: str
    pictures: bool
    dicom: tuple[str, ...] = ()
    """Folder of the DICOM results, and how they are written; empty without them."""
    quality_gate: GateMode = DEFAULT_MODE


@dataclass(frozen=True)
class Task:
    """A call with the run and the images that it names. out: where the results of all images go. listing: the images
    of this call, which may be a part of all."""

    call: Call
    source: FinishedRun
    point: OperatingPoint
    out: Path
    listing: Listing
    format: str

    @property
    def folder(self) -> Path:
        """Where the results of this call go."""
        return self.call.shard.folder(self.out) if self.call.shard else self.out

    def part(self, shard: Shard) -> "Task":
        """The same call for a part of its images."""
        call = replace(self.call, shard=shard, format=self.format)
        return replace(self, call=call, listing=shard.part_of(self.listing))

    def start(self) -> Run:
        """Open the folder, see `start_run`."""
        call = self.call
        settings = CallSettings(
            images=tuple(map(str, call.images)),
            image_files=fingerprint(self.listing),
            shard=str(call.shard or ""),
            format=self.format,
            points=self.point.name,
            pictures=call.pictures,
            dicom=() if call.dicom is None else (str(call.dicom), call.sr_class, call.capture),
            quality_gate=call.quality_gate,
        )
        return start_run(self.folder, stage=STAGE, settings=settings, inputs={"stage3": call.run})


def task_of(call: Call) -> Task:
    """Check a call and list its images.

    Raises:
        UserError: an invalid call.
    """
    source = open_run(call.run, stage="stage3")
    listing = find_images(call.images)
    chosen = open_point(source.manifest, call.points)
    point = with_measured({chosen.name: chosen}, source.metrics)[chosen.name]
    out = call.out or default_out(call.run, call.images)
    refuse_inside(out, call.images)
    format = call.format or preferred_format(source, device=pick_device(call.device))
    task = Task(call, source, point, out, listing, format)
    return task.part(call.shard) if call.shard else task
