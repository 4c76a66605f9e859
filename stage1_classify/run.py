"""Stage 1: train a multilabel classifier from image-level labels."""

import sys
from pathlib import Path

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import load_config
from cxr.runs.run_folder import open_run, start_run
from cxr.runs.stage_job import run_as_job
from eval.classification.degenerate import did_not_learn
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    if run_as_job(Path(__file__), arguments, torchrun=True):
        print_run(arguments.out)
        return
    from stage1_classify import pipeline  # torch and timm take seconds, --help needs neither
    from stage1_classify.settings.classifier import Stage1Settings
    from stage1_classify.training.fabric import make_fabric

    settings = load_config(Stage1Settings, arguments.config, arguments.overrides)
    if arguments.num_checked is not None:
        from stage1_classify.check_distributed import check_distributed

        sys.stdout.write(check_distributed(settings, arguments.num_checked) + "\n")
        return
    fabric = make_fabric(settings)
    sources = {"init_from": settings.init_from, "teacher": settings.labels.teacher, "label_file": settings.label_file}
    inputs = {name: path for name, path in sources.items() if path is not None}
    run = start_run(arguments.out, stage="stage1", settings=settings, inputs=inputs, processes=fabric)
    if run.state != "finished":
        pipeline.run(run, settings, fabric)
    if fabric.is_global_zero:
        print_run(run.dir, remark=did_not_learn(open_run(run.dir).metrics))


if __name__ == "__main__":
    given = parse_stage_arguments("stage1", about=__doc__ or "", options=["check", "cluster", "several"])
    sys.exit(exit_code(lambda: main(given)))
