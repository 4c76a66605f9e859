"""Stage 1: combine finished classifiers into an ensemble, or add test-time augmentation to one classifier."""

import sys

from cxr.cli import StageArguments, exit_code, parse_stage_arguments
from cxr.config import load_config
from cxr.runs.run_folder import start_run
from eval.report.text_tables import print_run


def main(arguments: StageArguments) -> None:
    from stage1_classify import ensemble_pipeline  # torch and timm take seconds, --help needs neither
    from stage1_classify.settings.classifier import EnsembleSettings

    settings = load_config(EnsembleSettings, arguments.config, arguments.overrides)
    members = ensemble_pipeline.open_members(arguments.sources, settings)
    inputs = {f"member_{index}": member.dir for index, member in enumerate(members)}
    run = start_run(arguments.out, stage="stage1", settings=settings, inputs=inputs)
    if run.state != "finished":
        ensemble_pipeline.run(run, settings, members)
    print_run(run.dir)


if __name__ == "__main__":
    given = parse_stage_arguments("ensemble", previous="stage1", about=__doc__ or "")
    sys.exit(exit_code(lambda: main(given)))
