"""Stage 1: search for the best settings. Each trial is a training; the validation split decides which one is best."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import UserError, load_config
from cxr.runs.cluster_settings import load_cluster
from cxr.runs.run_folder import start_run
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    from stage1_classify.experiments.sweep_space import check_space  # slow, not needed by --help
    from stage1_classify.experiments.sweep_work import Sweep, work
    from stage1_classify.settings.experiments import SweepSettings

    settings = load_config(SweepSettings, arguments.config, arguments.overrides)
    check_space(settings)
    if arguments.worker is not None:
        print_run(work(arguments.out, settings, arguments.worker))
        return
    cluster = load_cluster(arguments.cluster, arguments.cluster_changes)
    if cluster is not None and settings.backend == "wandb":
        raise UserError("--cluster: the agent of wandb makes one trial at a time, on this machine; leave out --cluster")
    run = start_run(arguments.out, stage="sweep", settings=settings, inputs={"base": settings.base})
    if run.state != "finished":
        Sweep(run, settings, cluster=cluster)()
    print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("sweep", about=__doc__ or "", options=["cluster", "worker"])
    sys.exit(exit_code(lambda: main(given)))
