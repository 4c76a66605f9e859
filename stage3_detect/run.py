"""Stage 3: train a detector on pseudo-labels, compare it with its CAM teacher, and export it."""

import sys
from pathlib import Path

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import UserError, load_config
from cxr.runs.run_folder import open_run, start_run
from cxr.runs.stage_job import run_as_job
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    if run_as_job(Path(__file__), arguments):
        print_run(arguments.out)
        return
    from stage3_detect import pipeline  # torch and ultralytics take seconds, --help needs neither
    from stage3_detect.labels.corrections import corrections_input
    from stage3_detect.settings.detector import Stage3Settings
    from stage3_detect.training.starting_point import weights_input

    settings = load_config(Stage3Settings, arguments.config, arguments.overrides)
    if len(arguments.sources) != 1:
        raise UserError(f"--from: got {len(arguments.sources)} runs, expected one finished stage 2 run")
    others = {f"compare_with_{name}": path for name, path in settings.compare_with.items()}
    inputs = {"stage2": arguments.sources[0], **weights_input(settings), **corrections_input(settings.labels), **others}
    stage2 = open_run(arguments.sources[0], stage="stage2")
    run = start_run(arguments.out, stage="stage3", settings=settings, inputs=inputs)
    if run.state != "finished":
        pipeline.run(run, settings, stage2)
    print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("stage3", previous="stage2", about=__doc__ or "", options=["cluster"])
    sys.exit(exit_code(lambda: main(given)))
