"""Predictions for images that the predicting model was not trained on: of finished runs, or of a small model on
thumbnails."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from cxr.arrays import Bools, Float32s, Floats, Ints
from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from cxr.runs.run_folder import open_run
from cxr.splits import hash_to_unit, patients_of
from cxr.tables import Dataset
from eval.classification.prediction_file import read_predictions

NUM_FOLDS = 5
MIN_CASES = 10
"""Images with and without a finding that the small model needs, each."""

_FEATURES_PX, _MAX_COMPONENTS, _IMAGES_PER_COMPONENT = 32, 64, 10
_MAX_FITTED = 20_000
_SEED = 0


@dataclass(frozen=True)
class OutOfFold:
    """source: where the predictions come from, as a sentence. probabilities: (N, K), NaN where there is none."""

    source: str
    probabilities: Floats


def predictions_of_runs(runs: Sequence[Path], data: Dataset, findings: Sequence[str]) -> OutOfFold:
    """The predictions of finished stage 1 runs (or folders of `predict.py RUN CONFIG`) for images on which they were
    not trained, which are all in their files; the mean where several runs have predicted an image.

    Raises:
        UserError: a folder is no such run, or none has predicted an image of `data`.
    """
    rows = pd.Series(range(len(data.images)), index=data.images["image_id"].tolist())
    total = np.zeros((len(rows), len(findings)))
    number = np.zeros_like(total)
    for folder in runs:
        table = read_predictions(open_run(folder).output("predictions")).set_index("image_id")
        own = table[table.index.isin(rows.index)]
        for k, finding in enumerate(findings):
            if finding in own.columns:
                places = rows[own.index].to_numpy()
                known = own[finding].notna().to_numpy()
                total[places[known], k] += own[finding].to_numpy(np.float64)[known]
                number[places[known], k] += 1
    if not number.any():
        raise UserError(f"--run {runs[0]}: predicts no image and finding of {data.name}; give a run on this data set")
    covered = int(number.any(axis=1).sum())
    source = (
        f"Probabilities of {', '.join(map(str, runs))} for the {covered} of {len(rows)} images that these runs have "
        "predicted and not been trained on."
    )
    return OutOfFold(source, np.where(number > 0, total / np.maximum(number, 1), np.nan))


def predictions_of_small_model(data: Dataset, thumbnails: NetImage, has_thumbnail: Bools, targets: Floats) -> OutOfFold:
    """Cross-validated predictions of a logistic regression on principal components of thumbnails, with all images of a
    patient in one fold.

    thumbnails: (M, h, w) of the images with `has_thumbnail` (N,). targets: (N, K) of 1, 0 and NaN. Findings with fewer
    than `MIN_CASES` images of either kind, or with one kind only in a training fold, have no predictions.
    """
    probabilities = np.full(targets.shape, np.nan)
    source = (
        f"Probabilities of a logistic regression on thumbnails of {_FEATURES_PX} x {_FEATURES_PX} pixels, in "
        f"{NUM_FOLDS}-fold cross-validation by patient. It is a weak model; --run RUN takes the predictions of a "
        "trained classifier instead."
    )
    enough = [
        k for k, own in enumerate(targets[has_thumbnail].T) if min((own == 1).sum(), (own == 0).sum()) >= MIN_CASES
    ]
    if not enough:
        return OutOfFold(source, probabilities)
    features = _features(thumbnails)
    folds = np.array([int(NUM_FOLDS * hash_to_unit(patient, _SEED)) for patient in patients_of(data)], dtype=np.int64)
    for k in enough:
        own = targets[has_thumbnail, k]
        probabilities[has_thumbnail, k] = _cross_validated(features, own, folds[has_thumbnail])
    return OutOfFold(source, probabilities)


def _features(thumbnails: NetImage) -> Floats:
    """(N, F) principal components of thumbnails, each of variance 1. They are fitted on at most `_MAX_FITTED` of them,
    and computed in parts, since the pixels of a large data set would not fit into memory."""
    number = max(1, min(_MAX_COMPONENTS, len(thumbnails) // _IMAGES_PER_COMPONENT))
    model = PCA(number, whiten=True, svd_solver="randomized", random_state=_SEED)
    model.fit(_pixels(thumbnails[:: -(-len(thumbnails) // _MAX_FITTED)]))
    starts = range(0, len(thumbnails), _MAX_FITTED)
    parts = [model.transform(_pixels(thumbnails[start : start + _MAX_FITTED])) for start in starts]
    return np.concatenate(parts).astype(np.float64)


def _pixels(thumbnails: NetImage) -> Float32s:
    """(N, P) in [-1, 1]: reduced, less their mean."""
    size_wh = (_FEATURES_PX, _FEATURES_PX)
    small = np.stack([cv2.resize(one, size_wh, interpolation=cv2.INTER_AREA).ravel() for one in thumbnails])
    pixels = small.astype(np.float32) / 255
    return np.asarray(pixels - pixels.mean(axis=1, keepdims=True), dtype=np.float32)


def _cross_validated(features: Floats, targets: Floats, folds: Ints) -> Floats:
    """(N,) probabilities of the images with a target; NaN elsewhere, and everywhere if a training fold has one kind of
    target only."""
    probabilities = np.full(len(targets), np.nan)
    known = ~np.isnan(targets)
    for fold in range(NUM_FOLDS):
        training, held_out = known & (folds != fold), known & (folds == fold)
        if len(set(targets[training])) < 2:
            return np.full(len(targets), np.nan)
        if held_out.any():
            model = LogisticRegression(C=0.1, max_iter=300).fit(features[training], targets[training])
            probabilities[held_out] = model.predict_proba(features[held_out])[:, 1]
    return probabilities


def targets_of(labels: pd.DataFrame, *, not_mentioned: str) -> Floats:
    """(N, K) 1, 0, and NaN for uncertain labels and findings that were not asked for; labels that are not mentioned are
    0 ("zeros") or NaN ("ignore")."""
    values = labels.to_numpy(np.float64)
    blank = 0.0 if not_mentioned == "zeros" else np.nan
    return np.where((values == 1) | (values == 0), values, np.where(np.isnan(values), blank, np.nan))
