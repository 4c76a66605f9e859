"""The quality gate: whether an image is like the detector's own images, and if not, what is wrong with it.

- *Unlike*: the Mahalanobis distance of the image from the good images, on principal components of its layout, the rest
  that these leave, and its statistics (Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution
  Samples, NeurIPS 2018, with features of the image in place of a network's).
- *A named fault*: a linear discriminant (Fisher) between good images and good images with this fault simulated
  (`faults.py`), as Golan and El-Yaniv do with rotations (Deep Anomaly Detection Using Geometric Transformations,
  NeurIPS 2018); or between good images and examples of a fault that cannot be simulated, such as children.
- Each of these scores is put on a common scale, and an image is refused if one of them is above one limit. The limit is
  a quantile of the largest score of good images that nothing was fitted on (conformal prediction; Laxhammar and
  Falkman, Conformal Prediction for Distribution-Independent Anomaly Detection, 2010).
- The reason is the fault whose images are nearest, if the image is among them; else that it is unlike good images, or
  no chest radiograph if it is far from all.

`fit.py` makes a gate. It needs NumPy and OpenCV alone.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.imaging.files import Pixels
from cxr.input_files import read_regular
from stage3_detect.image_quality.description import LAYOUT_PX, STATISTICS, Description, describe, thumbnail_of
from stage3_detect.image_quality.rules import MIN_SIDE_PX, looks_inverted, rule_codes
from stage3_detect.image_quality.verdict import DEFAULT_MODE, SENTENCES, GateMode, Quality

NUM_FEATURES = 8
"""Principal components of the layout that are recorded for drift."""
FAR = 2.0
"""An image whose distance is above this multiple of the limit is no chest radiograph."""
UNLIKE, UNLIKENESS = "unlike", "unlikeness"

_MAX_BYTES = 2**26
"""Of all arrays of a file; they take 2 MB at most."""
_TEXTS = ("faults", "ignored")


@dataclass(frozen=True, eq=False)
class Reference:
    """Good images in numbers. P = LAYOUT_PX ** 2, D components, T = len(STATISTICS), Z = D + 1 + T, F faults.

    layout_mean: (P,). axes: (D, P). scales: (D,) standard deviations along the axes. rest: (2,) mean and standard
    deviation of what the axes leave. tone_mean, tone_scale: (T,). whitening: (Z, Z) makes the Mahalanobis distance from
    good images an ordinary one; pooled: (Z, Z) does it for the spread around the means of good images and faults.
    fault_means, fault_reach: (F, Z), (F,) mean of the images with a fault, and the distance within which most are.
    centre, spread: (F + 1,) of the scores of good images, the distance last. limit: of the largest score. min_side_px.
    faults: (F,) names. ignored: names of the fixed rules that good images break.
    """

    layout_mean: Floats
    axes: Floats
    scales: Floats
    rest: Floats
    tone_mean: Floats
    tone_scale: Floats
    whitening: Floats
    pooled: Floats
    fault_means: Floats
    fault_reach: Floats
    centre: Floats
    spread: Floats
    limit: Floats
    min_side_px: Floats
    num_images: Floats
    faults: npt.NDArray[np.str_]
    ignored: npt.NDArray[np.str_]

    def vector(self, description: Description) -> Floats:
        """(Z,) standardised numbers of an image; the mean of good images is 0."""
        moved = description.layout - self.layout_mean
        along = self.axes @ moved
        left = np.sqrt(max(float(moved @ moved - along @ along), 0.0))
        tone = (description.tone - self.tone_mean) / self.tone_scale
        return np.concatenate([along / self.scales, [(left - self.rest[0]) / self.rest[1]], tone])

    def raw_scores(self, vector: Floats) -> Floats:
        """(F + 1,) discriminant of each fault, and distance from good images; higher is worse."""
        towards = (self.pooled @ self.fault_means.T).T
        white = self.whitening @ vector
        return np.append(towards @ (self.pooled @ vector), np.sqrt(white @ white))

    def scores(self, vector: Floats) -> Floats:
        """(F + 1,) on a common scale: 0 is the middle of good images, 1 their 95 % quantile."""
        return np.asarray((self.raw_scores(vector) - self.centre) / self.spread, dtype=np.float64)

    def fault_of(self, vector: Floats) -> str | None:
        """The fault whose images the image is among; None for no known one."""
        if not self.faults.size:
            return None
        distances = np.linalg.norm((self.fault_means - vector) @ self.pooled.T, axis=1)
        nearest = int(distances.argmin())
        return str(self.faults[nearest]) if distances[nearest] <= self.fault_reach[nearest] else None


@dataclass(frozen=True)
class Gate:
    """Checks images. reference: None for a run of an older version, where only fixed rules apply."""

    reference: Reference | None = None
    mode: GateMode = DEFAULT_MODE
    identity: str = ""

    def check(self, pixels: Pixels) -> Quality:
        """The verdict on an image (H, W), decoded with bright bone; ok without looking if the gate is off."""
        if self.mode == "off":
            return Quality(ok=True, reasons=())
        thumbnail = thumbnail_of(pixels)
        height, width = pixels.shape
        min_side_px = MIN_SIDE_PX if self.reference is None else int(self.reference.min_side_px)
        ignored = [] if self.reference is None else self.reference.ignored.tolist()
        codes = [code for code in rule_codes(pixels, thumbnail, min_side_px=min_side_px) if code not in ignored]
        description = describe(thumbnail)
        statistics = {"width_px": float(width), "height_px": float(height)}
        statistics |= dict(zip(STATISTICS, description.tone.tolist(), strict=True))
        features: list[float] = []
        if self.reference is not None:
            vector = self.reference.vector(description)
            scores = self.reference.scores(vector)
            codes += [] if "no_contrast" in codes else _codes(self.reference, vector, scores)
            statistics[UNLIKENESS], features = float(scores[-1]), vector[:NUM_FEATURES].tolist()
        elif not codes and looks_inverted(thumbnail):
            codes.append("inverted")
        return replace(
            Quality.of(codes, self.mode),
            statistics={name: round(value, 4) for name, value in statistics.items()},
            features=tuple(round(value, 4) for value in features),
            gate=self.identity,
        )


def _codes(reference: Reference, vector: Floats, scores: Floats) -> list[str]:
    limit = float(reference.limit)
    if scores.max() <= limit:
        return []
    return [reference.fault_of(vector) or ("not_chest" if scores[-1] > FAR * limit else UNLIKE)]


def reference_bytes(reference: Reference) -> bytes:
    """The content of a gate's file, the same for the same numbers: arrays in NumPy's format, no pickle."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in fields(reference):
            array = io.BytesIO()
            value = getattr(reference, part.name)
            stored = value if value.dtype.kind == "U" else value.astype(np.float32)
            np.lib.format.write_array(array, stored, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{part.name}.npy", (1980, 1, 1, 0, 0, 0)), array.getvalue())
    return content.getvalue()


def open_gate(path: Path | None, *, mode: GateMode = DEFAULT_MODE) -> Gate:
    """The gate in a file, or without a file one of fixed rules.

    Raises:
        UserError: the file is damaged.
    """
    if path is None:
        return Gate(mode=mode)
    data = read_regular(path, what="quality gate", advice="write the bundle again")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError(f"it unpacks to more than {_MAX_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            values: dict[str, Any] = {name: _read(arrays[name]) for name in arrays.files}
            reference = Reference(**values)
    except Exception as error:  # zipfile, zlib and NumPy raise nearly anything for damaged files
        raise UserError(f"quality gate: {path} is damaged ({error}); write the bundle again") from None
    if problem := _problem(reference):
        raise UserError(f"quality gate: {path} is damaged ({problem}); write the bundle again")
    return Gate(reference, mode, hashlib.sha256(data).hexdigest()[:12])


def _read(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if array.dtype.kind == "U" else array.astype(np.float64)


def _problem(reference: Reference) -> str:
    """What keeps the numbers from being used; "" for nothing."""
    num_axes, num_faults, num_tones = reference.scales.size, reference.faults.size, len(STATISTICS)
    num = num_axes + 1 + num_tones
    shapes = {
        "layout_mean": (LAYOUT_PX**2,), "axes": (num_axes, LAYOUT_PX**2), "scales": (num_axes,), "rest": (2,),
        "tone_mean": (num_tones,), "tone_scale": (num_tones,), "whitening": (num, num), "pooled": (num, num),
        "fault_means": (num_faults, num), "fault_reach": (num_faults,), "centre": (num_faults + 1,),
        "spread": (num_faults + 1,), "limit": (), "min_side_px": (), "num_images": (), "faults": (num_faults,),
        "ignored": (reference.ignored.size,),
    }  # fmt: skip
    for name, shape in shapes.items():
        value = getattr(reference, name)
        if value.shape != shape:
            return f"{name} has the shape {value.shape}, expected {shape}"
        if (value.dtype.kind == "U") != (name in _TEXTS):
            return f"{name} holds values of the type {value.dtype}"
        if value.dtype.kind != "U" and not np.isfinite(value).all():
            return f"{name} is not finite"
    for name in ("scales", "rest", "tone_scale", "spread"):
        if (getattr(reference, name) <= 0).any():
            return f"{name} is not positive"
    unknown = [str(name) for name in reference.faults if name not in SENTENCES]
    return f"unknown fault {unknown[0]!r}" if unknown else ""
