"""Write the bundle that the service runs on, for a stage 3 run that has none; or a model repository for Triton.

python stage3_detect/bundle.py runs/phantom/stage3
python stage3_detect/bundle.py runs/phantom/stage3 --triton models
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 3 run")
    where = "stage 1 run of the classifier (default: found through the inputs of RUN)"
    parser.add_argument("--from", dest="stage1", type=Path, metavar="RUN", help=where)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle (default: RUN/export/bundle)")
    triton = "write nothing but the detector of RUN's bundle, into this model repository for the Triton server"
    parser.add_argument("--triton", type=Path, metavar="DIR", help=triton)
    given = parser.parse_args(argv)
    if given.triton and (given.stage1 or given.out):
        parser.error("--triton takes the bundle as it is; give --from and --out in a call of their own")
    return given


def main(given: argparse.Namespace) -> None:
    """Write the bundle and print its folder and engines, or the model for Triton and print its folder."""
    from stage3_detect.serving.model.bundle import open_bundle

    if given.triton:
        from stage3_detect.export.triton import write_triton

        sys.stdout.write(f"{write_triton(given.triton, open_bundle(given.run))}\n")
        return
    from cxr.runs.run_folder import open_run
    from stage3_detect.export.bundle import BundleSource, write_bundle

    source = BundleSource.of_run(open_run(given.run, stage="stage3"), given.stage1)
    written = open_bundle(write_bundle(given.out or given.run / "export" / "bundle", source).parent)
    formats = ", ".join(engine["format"] for engine in written.manifest["engines"])
    maps = "with" if written.manifest["classifier"] else "without"
    sys.stdout.write(f"{written.dir}: {formats}; {maps} heat maps; {written.sha256[:12]}\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
