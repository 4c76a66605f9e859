"""Stage 1: train variants of the classifier and compare each with the reference of its group."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import load_config
from cxr.runs.cluster_settings import load_cluster
from cxr.runs.run_folder import start_run


def main(arguments: StageArguments) -> None:
    from stage1_classify.experiments.ablation import print_ablation, run_ablation  # slow, not needed by --help
    from stage1_classify.experiments.ablation_plan import make_plan
    from stage1_classify.settings.experiments import AblationSettings

    settings = load_config(AblationSettings, arguments.config, arguments.overrides)
    cluster = load_cluster(arguments.cluster, arguments.cluster_changes)
    plan = make_plan(settings, arguments.out)
    run = start_run(arguments.out, stage="ablation", settings=settings, inputs={"base": settings.base})
    if run.state != "finished":
        run_ablation(run, settings, plan, cluster=cluster)
    print_ablation(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("ablation", about=__doc__ or "", options=["cluster"])
    sys.exit(exit_code(lambda: main(given)))
