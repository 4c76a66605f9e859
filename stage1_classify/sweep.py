"""Stage 1: search settings. Each trial is an ordinary training, and the validation split decides which is the best."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import load_config
from cxr.runs.run_folder import start_run
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    # imported late: it takes seconds, which --help need not wait for
    from stage1_classify.experiments.sweep_space import check_space
    from stage1_classify.experiments.sweep_trials import Sweep
    from stage1_classify.settings.experiments import SweepSettings

    settings = load_config(SweepSettings, arguments.config, arguments.overrides)
    check_space(settings)
    run = start_run(arguments.out, stage="sweep", settings=settings, inputs={"base": settings.base})
    if run.state != "finished":
        Sweep(run, settings)()
    print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("sweep", about=__doc__ or "")
    sys.exit(exit_code(lambda: main(given)))
