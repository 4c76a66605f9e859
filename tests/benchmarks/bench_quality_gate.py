"""How well the quality gate finds unsuitable images, and how many good ones it refuses.

    python tests/benchmarks/bench_quality_gate.py --good data/phantom_demo/chexpert/CheXpert-v1.0-small/train
    python tests/benchmarks/bench_quality_gate.py --real /data/real --out runs/quality_gate

Good images are judged by gates that were fitted on the other four fifths of them. Simulated faults are made of these
images and judged by the same gates; other images by a gate fitted on all good ones. --real: a folder with tbx11k,
covid_chestxray and kermany in their released layouts; the good images are those of TBX11K. Half of the images with
examples (children, lateral views) are given to the gate, the other half is judged, and in exchange; then the names of
their reasons are counted too. Pictures of wrong verdicts go to --out; do not publish those of real patients.
"""

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.imaging.files import Pixels, read_pixels
from cxr.imaging.listing import find_images
from cxr.labels import slug
from eval.report.pictures import save_png
from eval.stats.two_sample import auroc_interval
from stage3_detect.image_quality.description import Description, describe, thumbnail_of
from stage3_detect.image_quality.faults import FAULTS
from stage3_detect.image_quality.fit import GoodImages, describe_good, fit_gate
from stage3_detect.image_quality.gate import Gate, Reference

NUM_FOLDS, MAX_IMAGES, MAX_CHILDREN = 5, 600, 400
VIEWS = {"PA": "other hospitals, PA", "AP": "other hospitals, AP", "AP Supine": "other hospitals, AP supine"}
SHOWN = 12


@dataclass(frozen=True)
class Judged:
    """Scores relative to the limit (above 1: refused) and the reasons of a set of images."""

    scores: Floats
    codes: tuple[str, ...]

    @property
    def refused(self) -> int:
        return sum(code != "" for code in self.codes)

    def reasons(self) -> str:
        return ", ".join(f"{number} {code or 'passed'}" for code, number in Counter(self.codes).most_common(4))


def check(reference: Reference, images: Sequence[Pixels]) -> Judged:
    """Judge images by all but their size. The scores are those of the comparison; fixed rules have none."""
    gate, scores, codes = Gate(reference), [], []
    for pixels in images:
        verdict = gate.check(pixels)
        vector = reference.vector(describe(thumbnail_of(pixels)))
        scores.append(float(reference.scores(vector).max() / reference.limit))
        codes.append(" + ".join(code for code in verdict.codes if code != "small"))
    return Judged(np.array(scores), tuple(codes))


def share(count: int, number: int) -> str:
    """A share with Wilson's 95 % interval."""
    z, p = 1.96, count / number
    middle, half = p + z * z / (2 * number), z * ((p * (1 - p) + z * z / (4 * number)) / number) ** 0.5
    low, high = (max(0.0, (middle + side * half) / (1 + z * z / number)) for side in (-1, 1))
    return f"{count}/{number} = {100 * p:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def take(known: GoodImages, rows: Sequence[int]) -> GoodImages:
    """Some of the good images."""
    faults = {name: tuple(described[row] for row in rows) for name, described in known.faults.items()}
    return GoodImages(
        tuple(known.descriptions[row] for row in rows),
        faults,
        tuple(known.sides_px[row] for row in rows),
        tuple(known.broken[row] for row in rows),
    )


def joined_parts(parts: Sequence[Judged]) -> Judged:
    return Judged(np.concatenate([part.scores for part in parts]), tuple(code for part in parts for code in part.codes))


def cross_judge(images: Sequence[Pixels], known: GoodImages) -> dict[str, Judged]:
    """Each good image, and each of its simulated faults, judged by a gate that has not seen it."""
    rng = np.random.default_rng(1)
    found: dict[str, list[Judged]] = {"good": [], **{name: [] for name in FAULTS}}
    for fold in range(NUM_FOLDS):
        rows = [row for row in range(len(images)) if row % NUM_FOLDS == fold]
        reference = fit_gate(take(known, [row for row in range(len(images)) if row % NUM_FOLDS != fold]))
        found["good"].append(check(reference, [images[row] for row in rows]))
        for name, fault in FAULTS.items():
            found[name].append(check(reference, [fault(images[row], rng) for row in rows]))
    order = np.argsort([row % NUM_FOLDS for row in range(len(images))], kind="stable").argsort()
    joined = {}
    for name, parts in found.items():
        whole = joined_parts(parts)
        joined[name] = Judged(whole.scores[order], tuple(whole.codes[row] for row in order))
    return joined


def other_pictures() -> list[Pixels]:
    """Parts of photographs that come with matplotlib and scikit-learn, and noise from fine to coarse."""
    import matplotlib as mpl
    from sklearn.datasets import load_sample_images

    photographs = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in load_sample_images().images]
    folder = Path(mpl.get_data_path()) / "sample_data"
    photographs += [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.glob("*.jpg"))]
    rng = np.random.default_rng(0)
    pictures = [FAULTS["cropped"](photographs[number % len(photographs)], rng) for number in range(60)]
    for sigma in np.geomspace(0.3, 40, 20):
        pictures.append(cv2.GaussianBlur(rng.normal(0, 1, (400, 360)).astype(np.float32), (0, 0), float(sigma)))
    return pictures


def dicom_test_files() -> list[Pixels]:
    """Slices, limbs and test patterns that pydicom and pydicom-data bring along; files with chests are left out."""
    import pydicom

    folders = [Path(pydicom.__file__).parent]
    try:
        import data_store

        folders.append(Path(next(iter(data_store.__path__))))
    except ImportError:
        pass
    pictures = []
    for path in sorted(path for folder in folders for path in folder.rglob("*.dcm") if "RG1" not in path.name):
        try:
            pictures.append(read_pixels(path))
        except UserError:
            continue
    return pictures


def real_sets(root: Path) -> tuple[list[Path], dict[str, list[Path]], dict[str, list[Path]]]:
    """Good images, other images by name, and examples by reason."""
    good = sorted((root / "tbx11k" / "imgs" / "tb").iterdir())
    covid = root / "covid_chestxray"
    with (covid / "metadata.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (covid / "images" / row["filename"]).is_file()]
    of_view = {view: [row["filename"] for row in rows if row["view"] == view] for view in (*VIEWS, "L")}
    images = {view: [covid / "images" / name for name in names] for view, names in of_view.items()}
    with (root / "kermany" / "groups.csv").open(newline="") as file:
        files = {row["group_id"]: Path(row["split"]) / row["class"] / row["file"] for row in csv.DictReader(file)}
    children = evenly([root / "kermany" / path for path in files.values()], MAX_CHILDREN)
    return good, {name: images[view] for view, name in VIEWS.items()}, {"child": children, "lateral": images["L"]}


def evenly(paths: Sequence[Path], number: int) -> list[Path]:
    return [paths[place * len(paths) // number] for place in range(number)] if len(paths) > number else list(paths)


def with_examples(known: GoodImages, kinds: dict[str, list[Pixels]]) -> dict[str, Judged]:
    """Images of the kinds, judged by gates that know the other half of them."""
    halves: list[dict[str, list[Pixels]]] = [{kind: given[side::2] for kind, given in kinds.items()} for side in (0, 1)]
    found: dict[str, list[Judged]] = {kind: [] for kind in kinds}
    for given, judged in (halves, halves[::-1]):
        described: dict[str, list[Description]] = {
            kind: [describe(thumbnail_of(pixels)) for pixels in images] for kind, images in given.items()
        }
        reference = fit_gate(known, described)
        for kind, images in judged.items():
            found[kind].append(check(reference, images))
    return {f"{kind}, with examples": joined_parts(parts) for kind, parts in found.items()}


def milliseconds(gate: Gate) -> float:
    """Median time of a verdict on an image of 3000 x 2500 pixels with 16 bits."""
    pixels = np.random.default_rng(0).integers(0, 4096, (3000, 2500)).astype(np.uint16)
    times = []
    for _ in range(21):
        begin = time.perf_counter()
        gate.check(pixels)
        times.append(time.perf_counter() - begin)
    return float(np.median(times) * 1000)


def gallery(path: Path, images: Sequence[Pixels], chosen: Callable[[int], bool]) -> None:
    """Write the first images that are chosen, side by side; nothing if there is none."""
    shown = [thumbnail_of(pixels) for row, pixels in enumerate(images) if chosen(row)][:SHOWN]
    if shown:
        tiles = [cv2.resize(one, (224, 224), interpolation=cv2.INTER_AREA) for one in shown]
        tiles += [np.zeros((224, 224), np.uint8)] * (-len(tiles) % 4)
        rows = [np.hstack(tiles[at : at + 4]) for at in range(0, len(tiles), 4)]
        save_png(path, cv2.cvtColor(np.vstack(rows), cv2.COLOR_GRAY2RGB))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", nargs="+", type=Path, help="folders of good images")
    parser.add_argument("--real", type=Path, help="folder with tbx11k, covid_chestxray and kermany")
    parser.add_argument("--out", type=Path, help="folder for pictures of wrong verdicts")
    given = parser.parse_args()
    if bool(given.good) == bool(given.real):
        parser.error("give either --good or --real")
    others: dict[str, list[Path]] = {}
    examples: dict[str, list[Path]] = {}
    if given.real:
        paths, others, examples = real_sets(given.real)
    else:
        paths = [file.path for file in find_images(given.good).files]
    images = [read_pixels(path) for path in evenly(paths, MAX_IMAGES)]
    known = describe_good(images)
    judged = cross_judge(images, known)
    reference = fit_gate(known)
    sets = {name: [read_pixels(path) for path in own] for name, own in (others | examples).items()}
    sets |= {"photographs and noise": other_pictures(), "DICOM test files": dicom_test_files()}
    judged |= {name: check(reference, own) for name, own in sets.items()}
    if examples:
        judged |= with_examples(known, {name: sets[name] for name in examples})
    figures = report(judged)
    figures["ms_per_image"] = milliseconds(Gate(reference))
    sys.stdout.write(f"\n{figures['ms_per_image']:.2f} ms for an image of 3000 x 2500 pixels\n{json.dumps(figures)}\n")
    if given.out:
        gallery(given.out / "good_refused.png", images, lambda row: judged["good"].codes[row] != "")
        for name, own in sets.items():
            codes = judged[name].codes
            gallery(given.out / f"passed_{slug(name)}.png", own, lambda row, codes=codes: codes[row] == "")


def report(judged: dict[str, Judged]) -> dict[str, float]:
    """Print a table and return its figures."""
    good = judged["good"]
    figures = {"good_refused": good.refused / len(good.codes)}
    sys.stdout.write(f"good images refused: {share(good.refused, len(good.codes))}: {good.reasons()}\n\n")
    sys.stdout.write(f"{'images':34}{'AUROC [95 %]':24}{'refused [95 %]':34}reasons\n")
    for name, one in judged.items():
        if name == "good":
            continue
        auroc = auroc_interval(good.scores, one.scores)
        text = f"{auroc.value:.3f} [{auroc.low:.3f}, {auroc.high:.3f}]"
        sys.stdout.write(f"{name:34}{text:24}{share(one.refused, len(one.codes)):34}{one.reasons()}\n")
        figures |= {f"auroc/{name}": auroc.value, f"refused/{name}": one.refused / len(one.codes)}
    return figures


if __name__ == "__main__":
    main()
