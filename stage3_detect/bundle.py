"""Write the bundle that the service runs on, for a stage 3 run that has none; or a model repository for Triton.

python stage3_detect/bundle.py runs/phantom/stage3
python stage3_detect/bundle.py runs/phantom/stage3 --triton models
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cxr.cli import exit_code
from cxr.config import UserError


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 3 run")
    where = "stage 1 run of the classifier (default: found through the inputs of RUN)"
    parser.add_argument("--from", dest="stage1", type=Path, metavar="RUN", help=where)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle (default: RUN/export/bundle)")
    gate = "good images of the hospital where the bundle will run: fit the quality gate to them"
    parser.add_argument("--gate-images", nargs="+", type=Path, metavar="IMAGES", help=gate)
    examples = "with --gate-images: unsuitable images by reason, lateral=DIR, child=DIR or not_chest=DIR"
    parser.add_argument("--gate-examples", nargs="+", default=[], metavar="REASON=DIR", help=examples)
    triton = "write nothing but the detector of RUN's bundle, into this model repository for the Triton server"
    parser.add_argument("--triton", type=Path, metavar="DIR", help=triton)
    given = parser.parse_args(argv)
    if given.triton and (given.stage1 or given.out):
        parser.error("--triton takes the bundle as it is; give --from and --out in a call of their own")
    return given


def examples_of(given: argparse.Namespace) -> dict[str, Path]:
    """Folders of unsuitable images by reason. UserError for a text that is not REASON=DIR."""
    parts = {text: text.partition("=") for text in given.gate_examples}
    if wrong := [text for text, (_, _, folder) in parts.items() if not folder]:
        raise UserError(f"--gate-examples {wrong[0]}: expected REASON=DIR, for instance lateral=/data/laterals")
    if parts and not given.gate_images:
        raise UserError("--gate-examples: a gate is fitted to good images; give --gate-images too")
    return {reason: Path(folder) for reason, _, folder in parts.values()}


def main(given: argparse.Namespace) -> None:
    """Write the bundle and print its folder and engines, or the model for Triton and print its folder."""
    from stage3_detect.serving.model.bundle import open_bundle

    if given.triton:
        from stage3_detect.export.triton import write_triton

        sys.stdout.write(f"{write_triton(given.triton, open_bundle(given.run))}\n")
        return
    from cxr.runs.run_folder import open_run
    from stage3_detect.export.bundle import BundleSource, write_bundle
    from stage3_detect.export.gate_file import FILE_NAME, refit

    examples = examples_of(given)
    with TemporaryDirectory(prefix="raybox-gate-") as folder:
        gate = refit(given.gate_images, examples, Path(folder) / FILE_NAME) if given.gate_images else None
        source = BundleSource.of_run(open_run(given.run, stage="stage3"), given.stage1, gate)
        written = open_bundle(write_bundle(given.out or given.run / "export" / "bundle", source).parent)
    formats = ", ".join(engine["format"] for engine in written.manifest["engines"])
    kind = "fitted" if written.manifest["quality_gate"] else "of fixed rules"
    maps = "with" if written.manifest["classifier"] else "without"
    sys.stdout.write(f"{written.dir}: {formats}; {maps} heat maps; quality gate {kind}; {written.sha256[:12]}\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
