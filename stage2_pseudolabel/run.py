"""Stage 2: score all CAM methods against radiologists' boxes, and export pseudo-labels from the best one."""

import sys
from pathlib import Path

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import UserError, load_config
from cxr.runs.run_folder import start_run
from cxr.runs.stage_job import run_as_job
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    if run_as_job(Path(__file__), arguments, torchrun=True):
        print_run(arguments.out)
        return
    from stage2_pseudolabel import pipeline  # torch takes seconds, --help does not need it
    from stage2_pseudolabel.cam_maps.processes import make_processes
    from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

    settings = load_config(Stage2Settings, arguments.config, arguments.overrides)
    if len(arguments.sources) != 1:
        raise UserError(f"--from: got {len(arguments.sources)} runs, expected one stage 1 run")
    source = arguments.sources[0]
    processes = make_processes()
    places = settings.pseudo_labels.report_places
    inputs = {"stage1": source} | ({"sides": places.sides, "labels": places.labels} if places else {})
    fabric = processes.fabric
    run = start_run(arguments.out, stage="stage2", settings=settings, inputs=inputs, processes=fabric)
    if run.state != "finished":
        pipeline.run(run, settings, source, processes)
    if processes.is_first:
        print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("stage2", previous="stage1", about=__doc__ or "", options=["cluster"])
    sys.exit(exit_code(lambda: main(given)))
