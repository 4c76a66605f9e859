"""Stage 3: train variants of the detector on one stage 2 run and compare them with a reference variant."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import UserError, load_config
from cxr.runs.cluster_settings import load_cluster
from cxr.runs.run_folder import open_run, start_run
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    # imported late: it takes seconds, which --help need not wait for
    from stage3_detect.experiments.experiment import make_plan, run_experiment
    from stage3_detect.settings.experiments import DetectorExperimentSettings

    settings = load_config(DetectorExperimentSettings, arguments.config, arguments.overrides)
    if len(arguments.sources) != 1:
        raise UserError(f"--from: got {len(arguments.sources)} runs, expected one finished stage 2 run")
    cluster = load_cluster(arguments.cluster, arguments.cluster_changes)
    stage2 = open_run(arguments.sources[0], stage="stage2")
    plan = make_plan(settings, arguments.out, stage2=stage2.dir)
    others = {f"compare_with_{name}": path for name, path in settings.compare_with.items()}
    inputs = {"base": settings.base, "stage2": stage2.dir, **others}
    run = start_run(arguments.out, stage="study", settings=settings, inputs=inputs)
    if run.state != "finished":
        run_experiment(run, settings, plan, stage2=stage2, cluster=cluster)
    print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("study", previous="stage2", about=__doc__ or "", options=["several", "cluster"])
    sys.exit(exit_code(lambda: main(given)))
