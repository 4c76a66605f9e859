"""Stage 1: search for the best settings. Each trial is a training; the validation split decides which one is best."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import load_config
from cxr.runs.run_folder import start_run
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    from stage1_classify.experiments.sweep_space import check_space  # slow, not needed by --help
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
