"""Pictures for a report of stage 1: training pictures after each step on their way to the network, and a batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from cxr.arrays import Float32s
from cxr.imaging.files import min_max
from cxr.imaging.network_input import NetImage
from eval.report.pictures import Rgb, as_rgb, grid
from eval.report.radiographs import radiograph_of, reduced, short_ids
from stage1_classify.data.augment import Augmentation, augmentation_steps, picture_seed
from stage1_classify.data.batches import Split, TrainingSet, collate
from stage1_classify.data.targets import UNCERTAIN
from stage1_classify.evaluation.predictions import Scored
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.sampling import make_sampler

Tile = tuple[Rgb, str]
Steps = list[tuple[str, NetImage]]
"""As of `augmentation_steps`: names and pictures, the decoded one first."""

_NUM_SAMPLES, _NUM_CANDIDATES, _NUM_IN_BATCH = 4, 16, 12
_TILE_PX = 240
_CHANNELS = {
    "grey": ("",),
    "clahe3": (", channel 1: plain", ", channel 2: CLAHE, clip 2", ", channel 3: CLAHE, clip 4"),
}


def typical_cases(scored: Scored, number: int) -> list[tuple[int, int]]:
    """For each of the `number` most frequent findings: its column, and the positive case of median probability."""
    positive = scored.split.targets == 1
    most = np.argsort(-positive.sum(axis=0), kind="stable")[:number]
    chosen = []
    for column in sorted(most.tolist()):
        rows = np.flatnonzero(positive[:, column])
        if len(rows):
            order = np.argsort(scored.probabilities[rows, column], kind="stable")
            chosen.append((column, int(rows[order[(len(rows) - 1) // 2]])))
    return chosen


def step_grid(train: Split, settings: Stage1Settings) -> Rgb:
    """One column per training picture, one row per step: file, decoded, channels, augmentations, normalised."""
    columns = step_tiles(train, settings)
    return _grid([tile for row in zip(*columns, strict=True) for tile in row], columns=len(columns))


def step_tiles(train: Split, settings: Stage1Settings) -> list[list[Tile]]:
    """The tiles of each picture, step by step.

    The pictures are from the first batch, chosen so that as many augmentations as possible change one of them.
    """
    cases = next(iter(make_sampler(train.targets, settings, sets=train.sets)))[:_NUM_CANDIDATES]
    steps = {case: first_steps(train, case, settings) for case in cases}
    return [_tiles(train, case, steps[case], settings) for case in most_varied(steps, _NUM_SAMPLES)]


def first_steps(train: Split, case: int, settings: Stage1Settings) -> Steps:
    """Decoded and augmented pictures of a case's first view, as sampled in the first epoch (see TrainingSet)."""
    row = train.cases.views[case][0]
    seed = picture_seed(settings.seed, 0, row)
    return augmentation_steps(train.pictures[row], settings.augment, seed=seed, crop_hw=settings.input.crop_hw)


def most_varied(steps: Mapping[int, Steps], number: int) -> list[int]:
    """Greedily the cases that add most augmentations not seen yet; the first on ties."""
    left = {case: set(np.flatnonzero(_changed(own)).tolist()) for case, own in steps.items()}
    chosen: list[int] = []
    seen: set[int] = set()
    while left and len(chosen) < number:
        best = max(left, key=lambda case: len(left[case] - seen))
        seen |= left.pop(best)
        chosen.append(best)
    return chosen


def _changed(steps: Steps) -> list[bool]:
    """Whether each augmentation changed the picture."""
    return [after.shape != before.shape or bool((after != before).any()) for (_, before), (_, after) in pairwise(steps)]


def _tiles(train: Split, case: int, steps: Steps, settings: Stage1Settings) -> list[Tile]:
    decoded = steps[0][1]
    tiles = [(radiograph_of(train.cases.first, case, _TILE_PX), "image file")]
    for channel, name in enumerate(_CHANNELS[settings.input.channels]):
        size = "{} x {}".format(*decoded.shape[:2])
        tiles.append((as_rgb(_channel(decoded, channel) / 255), f"decoded, {size}{name}"))
    for (name, picture), is_changed in zip(steps[1:], _changed(steps), strict=True):
        caption = name.replace("_", " ") + ("" if is_changed else " (not applied)")
        tiles.append((as_rgb(_channel(picture, 0) / 255), caption))
    return tiles + _as_network_sees(train, steps[-1][1], settings)


def _as_network_sees(train: Split, picture: NetImage, settings: Stage1Settings) -> list[Tile]:
    """One tile per channel, from its lowest value (black) to its highest (white)."""
    values = train.pictures.to_input(picture, settings.backbone.in_channels).numpy()
    tiles = []
    for channel, name in enumerate(_CHANNELS[settings.input.channels]):
        plane = values[channel]
        limits = f"{plane.min():.2f} to {plane.max():.2f}, mean {plane.mean():.2f}"
        tiles.append((as_rgb(min_max(plane)), f"normalised{name}: {limits}"))
    return tiles


def batch_grid(train: Split, settings: Stage1Settings) -> Rgb:
    """The first cases of the first batch of the first epoch, every view, with their targets."""
    return _grid(batch_tiles(train, settings), columns=4)


def batch_tiles(train: Split, settings: Stage1Settings) -> list[Tile]:
    """One tile per image: the first channel of the network's input, from its lowest value to its highest."""
    rows = next(iter(make_sampler(train.targets, settings, sets=train.sets)))[:_NUM_IN_BATCH]
    augmentation = Augmentation(settings.augment, crop_hw=settings.input.crop_hw)
    items = TrainingSet(train, augmentation, num_channels=settings.backbone.in_channels, seed=settings.seed)
    batch = collate([items[row] for row in rows])
    names = short_ids([train.pictures.image_ids[view] for row in rows for view in train.cases.views[row]])
    texts = [target_text(targets, settings.findings) for targets in batch.targets.numpy()]
    num_views, so_far = Counter(batch.cases.tolist()), Counter[int]()
    tiles = []
    for image, name, case in zip(batch.images.numpy(), names, batch.cases.tolist(), strict=True):
        so_far[case] += 1
        which = f" (view {so_far[case]} of {num_views[case]})" if num_views[case] > 1 else ""
        tiles.append((reduced(min_max(image[0]), _TILE_PX), f"{name}{which}: {texts[case]}"))
    return tiles


def target_text(targets: Float32s, findings: Sequence[str]) -> str:
    """Training targets (K,) in words: positives by name, soft ones with their value, uncertain and masked ones."""
    words = {UNCERTAIN: " uncertain", 1.0: ""}
    named = [(name, target) for name, target in zip(findings, targets.tolist(), strict=True) if abs(target) > 0]
    known = [name + words.get(target, f" {target:.2f}") for name, target in named]
    masked = int(np.isnan(targets).sum())
    return (", ".join(known) or "no finding") + (f" ({masked} masked)" if masked else "")


def _grid(tiles: Sequence[Tile], *, columns: int) -> Rgb:
    pictures, captions = [picture for picture, _ in tiles], [caption for _, caption in tiles]
    return grid(pictures, captions, columns=columns, tile_px=_TILE_PX)


def _channel(picture: NetImage, channel: int) -> NetImage:
    return picture if picture.ndim == 2 else picture[:, :, channel]
