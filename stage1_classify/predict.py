"""Use a finished classifier: predict images without labels, or evaluate it on another labelled data set.

    python stage1_classify/predict.py runs/demo/stage1 scans/ one.dcm --out predictions
    python stage1_classify/predict.py runs/demo/stage1 other_hospital.yaml --out runs/demo/on_other_hospital

For research only, not for diagnosis.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code
from cxr.config import UserError
from cxr.imaging.listing import default_out
from cxr.imaging.shards import Split, add_shard_options
from eval.report.text_tables import print_run

SETTINGS_ENDINGS = (".yaml", ".yml")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 1 run or ensemble")
    what = "image files and folders (searched recursively); or one settings file of a labelled data set (.yaml)"
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IMAGES_OR_CONFIG", help=what)
    where = "new folder for the results (default: predictions/<name of the first argument> next to RUN)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    problem = "images that cannot be read: continue, then exit with 2 (error, the default) or with 0 (exclude)"
    parser.add_argument("--on-problem", choices=("error", "exclude"), default="error", help=problem)
    part = "part of the data set's split to evaluate, or all (default: the file's, test)"
    parser.add_argument("--part", metavar="NAME", help=part)
    add_shard_options(parser)
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change a setting")
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Predict the images, or evaluate on the data set."""
    split = Split.of(given)
    is_settings = [path.suffix.lower() in SETTINGS_ENDINGS for path in given.inputs]
    if any(is_settings):
        if len(given.inputs) > 1:
            raise UserError("IMAGES_OR_CONFIG: give images, or one settings file; a settings file stands alone")
        if split != Split():
            raise UserError("--shards, --shard and --cluster belong to images; leave them out for a settings file")
        _evaluate(given)
        return
    if given.part or given.set:
        raise UserError("--part and --set belong to a settings file of a labelled data set; leave them out for images")
    # torch takes seconds, --help needs none
    from stage1_classify.evaluation.new_images import Call, predict_images, predict_in_shards

    call = Call(given.run, tuple(given.inputs), given.out, given.on_problem, split.shard)
    summary = predict_images(call) if split.count is None else predict_in_shards(call, split.count, split.cluster)
    sys.stdout.write(summary + "\n")


def _evaluate(given: argparse.Namespace) -> None:
    from stage1_classify.evaluation.labelled_set import evaluate_elsewhere
    from stage1_classify.settings.labelled_set import load_labelled_set

    settings = load_labelled_set(given.inputs[0], given.set, part=given.part)
    out = given.out or default_out(given.run, given.inputs)
    evaluate_elsewhere(given.run, settings, out=out)
    print_run(out)


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
