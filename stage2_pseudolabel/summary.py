"""The report of stage 2: leaderboard, maps and boxes against the readers' boxes, pseudo-labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.images import GrayImage, read_image
from eval.charts import Bar, plot_bars
from eval.pictures import GREEN, ORANGE, Rgb, as_rgb, draw_boxes, grid, overlay_map, save_png
from eval.report import Block, Figure, Table, write_report
from stage1_classify.inputs.pictures import Pictures
from stage2_pseudolabel.export import PseudoLabels, box_statistics
from stage2_pseudolabel.leaderboard import PRIORS, Board, verdict
from stage2_pseudolabel.maps import SplitMaps

_TILE_PX = 320
_COLUMNS = ("ap10", "ap30", "ap50", "ap70", "ap5095", "voc40")

Test = tuple[CocoBoxes, SplitMaps, Pictures]


def write_summary(
    run_dir: Path, board: Board, pseudo: PseudoLabels, *, test: Test, timing: Mapping[str, float]
) -> Path:
    """Write ``report.html`` with its pictures; returns its path."""
    pictures = run_dir / "pictures"
    truth = test[0]
    plot_bars(
        pictures / "leaderboard.png", _bars(board), title="AP40 on the test split", label="mean AP at IoU .4"
    )
    save_png(pictures / "best_method.png", best_method_gallery(board, test))
    save_png(pictures / "methods.png", method_gallery(board, test))
    save_png(pictures / "pseudo_labels.png", pseudo_gallery(pseudo.coco))
    blocks: list[Block] = [
        leaderboard_table(board, timing),
        Figure("Leaderboard", "pictures/leaderboard.png"),
        finding_table(board),
        Figure(
            f"{board.best.name} against the readers",
            "pictures/best_method.png",
            "Readers' boxes green, CAM boxes orange with their score; the map over the picture.",
        ),
        Figure(
            "All methods on the same images",
            "pictures/methods.png",
            "Each map is stretched to its own maximum for the eye; readers' boxes green, the method's box orange.",
        ),
        _pseudo_table(pseudo),
        Figure(
            "Pseudo-labels of training images",
            "pictures/pseudo_labels.png",
            "No reader has seen these boxes.",
        ),
    ]
    synthetic = bool(truth.info.get("synthetic"))
    title = "Stage 2: CAM leaderboard and pseudo-labels"
    return write_report(run_dir, title=title, lead=verdict(board), blocks=blocks, synthetic=synthetic)


def _interval(board: Board, name: str) -> str:
    metrics = board.metrics
    low, high = metrics[f"ap40/{name}/low"], metrics[f"ap40/{name}/high"]
    return f"{metrics[f'ap40/{name}']:.3f} [{low:.3f}, {high:.3f}]"


def leaderboard_table(board: Board, timing: Mapping[str, float]) -> Table:
    """Best on the test split first; the chosen method is marked."""
    rows: list[list[str | float | None]] = []
    ranked = sorted(board.entries, key=lambda e: -board.metrics[f"ap40/{e.name}"])
    for entry in ranked:
        chosen = " (chosen)" if entry is board.best else ""
        rows.append(
            [
                entry.name + chosen,
                _interval(board, entry.name),
                *(board.metrics[f"{column}/{entry.name}"] for column in _COLUMNS),
                None if entry.name in PRIORS else entry.tune_ap,
                timing.get(f"ms_per_image/{entry.name}"),
                timing.get(f"peak_mib/{entry.name}"),
            ]
        )
    columns = [
        "method",
        "AP40 [95 %]",
        *(c.upper() for c in _COLUMNS),
        "AP40 on tune",
        "ms an image",
        "peak MiB",
    ]
    note = "Rules and the method are chosen on the tune split; everything else is of the test split."
    return Table("Leaderboard, test split", columns, rows, note, highlight=ranked.index(board.best))


def finding_table(board: Board) -> Table:
    """AP40 a finding: the chosen method, the mean-box prior, and whichever method is best there on the test split."""
    prior = next(entry for entry in board.entries if entry.name == "prior_mean_box")
    rows: list[list[str | float | None]] = []
    for column, finding in enumerate(board.best.result.findings):
        aps = {e.name: e.result.ap(0.4)[finding] for e in board.entries if e.name not in PRIORS}
        top = max(aps, key=lambda name: np.nan_to_num(aps[name], nan=-1.0))
        rows.append(
            [
                finding,
                int(board.best.result.matches[column].num_true.sum()),
                aps[board.best.name],
                prior.result.ap(0.4)[finding],
                f"{aps[top]:.3f} ({top})",
                str(board.best.rules[column]),
            ]
        )
    columns = ["finding", "boxes", f"AP40 {board.best.name}", "AP40 mean box", "best method here", "rule"]
    return Table("Findings", columns, rows)


def _bars(board: Board) -> list[Bar]:
    ranked = sorted(board.entries, key=lambda entry: -board.metrics[f"ap40/{entry.name}"])
    kinds = {entry.name: "muted" if entry.name in PRIORS else "" for entry in ranked} | {
        board.best.name: "marked"
    }
    return [
        Bar(
            entry.name,
            board.metrics[f"ap40/{entry.name}"],
            board.metrics[f"ap40/{entry.name}/low"],
            board.metrics[f"ap40/{entry.name}/high"],
            kinds[entry.name],
        )
        for entry in ranked
    ]


def _examples(coco: CocoBoxes, per_finding: int) -> list[tuple[int, int]]:
    """(image row, finding column) of a few images that have a box of the finding: those with the fewest boxes, which
    are the clearest to look at, no image twice while there are others."""
    row_of = {image_id: row for row, image_id in enumerate(coco.images["image_id"])}
    num_boxes = coco.boxes["image_id"].value_counts()
    chosen: list[tuple[int, int]] = []
    for column, finding in enumerate(coco.findings):
        ids = coco.boxes.loc[coco.boxes["finding"] == finding, "image_id"].unique().tolist()
        used = {row for row, _ in chosen}
        ids.sort(key=lambda image_id: (row_of[image_id] in used, num_boxes[image_id], row_of[image_id]))
        chosen += [(row_of[image_id], column) for image_id in ids[:per_finding]]
    return chosen


def best_method_gallery(board: Board, test: Test) -> Rgb:
    """Maps and boxes of the chosen method, two images a finding."""
    tiles, captions = [], []
    for row, column in _examples(test[0], 2):
        tiles.append(_tile(board, test, row=row, column=column, method=board.best.name))
        captions.append(test[0].findings[column])
    return grid(tiles, captions, columns=4, tile_px=_TILE_PX)


def method_gallery(board: Board, test: Test) -> Rgb:
    """One row of tiles a finding: the same image under every method."""
    methods = [entry.name for entry in board.entries if entry.name not in PRIORS]
    tiles, captions = [], []
    for row, column in _examples(test[0], 1):
        for method in methods:
            tiles.append(_tile(board, test, row=row, column=column, method=method))
            captions.append(f"{test[0].findings[column]}: {method}")
    return grid(tiles, captions, columns=max(1, len(methods)), tile_px=150)


def _tile(board: Board, test: Test, *, row: int, column: int, method: str) -> Rgb:
    """A network-sized picture with a map, the readers' boxes and the method's boxes."""
    truth, maps, pictures = test
    cam = maps.maps[method][row, column]
    rule = next(entry.rules[column] for entry in board.entries if entry.name == method)
    picture = _grey(pictures[row])
    image = truth.images.iloc[row]
    own = truth.boxes[
        (truth.boxes["image_id"] == image["image_id"]) & (truth.boxes["finding"] == truth.findings[column])
    ]
    resize = pictures.transform((int(image["height"]), int(image["width"])))
    true_boxes = resize.boxes_to_net(own[["x1", "y1", "x2", "y2"]].to_numpy())
    boxes, evidence = rule.boxes(cam)
    height, width = picture.shape
    scores = [f"{maps.probabilities[row, column] * value:.2f}" for value in evidence]
    # Twice the network's size, so that lines and letters are thin beside what they mark.
    tile = overlay_map(_doubled(picture), cam, vmax=float(max(cam.max(), 0.0)), opacity=0.45)
    tile = draw_boxes(tile, true_boxes * 2, colour=GREEN)
    return draw_boxes(tile, boxes * [width, height, width, height] * 2, colour=ORANGE, captions=scores)


def _grey(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W) in [0, 1]; of three channels the first, which is the picture before CLAHE."""
    plain = picture if picture.ndim == 2 else picture[:, :, 0]
    return np.asarray(plain / np.float32(255), dtype=np.float32)


def _doubled(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.kron(picture, np.ones((2, 2), dtype=np.float32))


def pseudo_gallery(coco: CocoBoxes) -> Rgb:
    """Training images with their pseudo-boxes, two of every finding, in the file's own pixels."""
    tiles, captions = [], []
    for row, _ in _examples(coco, 2):
        image = coco.images.iloc[row]
        own = coco.boxes[coco.boxes["image_id"] == image["image_id"]]
        tiles.append(_pseudo_tile(coco, image, own))
        captions.append(", ".join(own["finding"].unique()))
    return grid(tiles, captions, columns=4, tile_px=_TILE_PX)


def _pseudo_tile(coco: CocoBoxes, image: pd.Series, own: pd.DataFrame) -> Rgb:
    picture: GrayImage = read_image(Path(coco.info["data_root"]) / image["path"], region=image["region"])
    corners = own[["x1", "y1", "x2", "y2"]].to_numpy()
    names = [f"{row.finding} {row.score:.2f}" for row in own.itertuples()]
    return draw_boxes(as_rgb(picture), corners, colour=ORANGE, captions=names)


def _pseudo_table(pseudo: PseudoLabels) -> Table:
    statistics = box_statistics(pseudo.coco)
    rows = [list(row) for row in statistics.itertuples(index=False)]
    boxed = pseudo.coco.boxes["image_id"].nunique()
    note = (
        f"{boxed} images with boxes, {len(pseudo.coco.images) - boxed} normal ones, "
        f"{len(pseudo.excluded)} left out (excluded.json names them)."
    )
    return Table("Pseudo-labels", ["finding", "boxes", "images", "median area (share)"], rows, note)
