"""The checks that all data set modules share, from raw tables to a `Dataset`."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.config import UserError
from cxr.datasets.box_checks import check_images_known, check_shapes, fit_into_images
from cxr.datasets.box_frames import FrameSource, refuse_far_boxes, require_dicom
from cxr.datasets.files_on_disk import files_exist, read_sizes, with_other_spelling
from cxr.datasets.inside_root import leave_by_link, leaves, normal_path
from cxr.datasets.keyed_rows import keyed_rows
from cxr.datasets.same_content import same_content
from cxr.datasets.text_cells import Mask
from cxr.tables import IMAGE_COLUMNS, Dataset, DataSettings, Problems, box_columns, count_reasons

DUPLICATE_ROW = "duplicated row"
DUPLICATE_FILE = "file of an earlier row"
SAME_CONTENT = "file with the same content as an earlier one"
OUTSIDE_ROOT = "path that leads out of `root`"
MISSING = "missing image"
UNREADABLE = "unreadable image"
TURNED = "images turned upright as their EXIF data says; boxes refer to the upright image"


@dataclass(frozen=True)
class RawTables:
    """Parsed tables before any check. `labels` has the rows of `images`, with any index.

    `boxes` may have the additional columns `frame_h` and `frame_w`: the size of the image to which the coordinates
    refer, if it differs from the size of the file. `frame_source` says how sure that size is.
    """

    images: pd.DataFrame
    labels: pd.DataFrame
    boxes: pd.DataFrame
    frame_source: FrameSource = "given"

    def keep(self, mask: "pd.Series[bool] | npt.NDArray[np.bool_]") -> "RawTables":
        """Only the images of `mask` with their boxes. Boxes of images that the table does not contain are kept."""
        kept = np.asarray(mask, dtype=bool)
        if kept.all():
            return self
        images = self.images[kept].reset_index(drop=True)
        dropped = set(self.images.loc[~kept, "image_id"]) - set(images["image_id"])
        boxes = self.boxes[~self.boxes["image_id"].isin(dropped)]
        return replace(self, images=images, labels=self.labels[kept], boxes=boxes)


def assemble(
    raw: RawTables,
    settings: DataSettings,
    problems: Problems,
    *,
    name: str,
    wanted: Mask | None = None,
    unique_content: bool = False,
) -> Dataset:
    """Check rows, files and boxes; exclude what is wrong; build the data set.

    Args:
        wanted: (N,) the rows to load. The others are dropped after the look for contradictory rows, so that a filter
            does not choose between two rows of an image. None: all.
        unique_content: files with the same content are problems, since they could fall into train and test. Needs to
            read files of equal size.

    Raises:
        UserError: problems were found and `on_problem` is "error", or no image is left.
    """
    boxes = check_images_known(raw.boxes, raw.images["image_id"], problems)
    raw = replace(raw, boxes=check_shapes(boxes, problems))
    raw = _inside_root(_unique_files(_unique_images(raw, wanted, problems), problems), settings, problems)
    raw = _evenly_spaced(raw, settings.max_images)
    raw = _existing_files(raw, settings, problems)
    if unique_content and settings.check_files != "none":
        raw = _unique_content(raw, settings, problems)
    raw = _measured(raw, settings, problems)
    excluded = problems.finish()
    if raw.images.empty:
        tally = ", ".join(f"{num} x {why}" for why, num in count_reasons(excluded).items()) or "none excluded"
        line = f"{name}: no image is left in {settings.root} ({tally}); check the settings `data`"
        raise UserError([line, *problems.summaries])
    labels = raw.labels.astype(np.float64).set_axis(pd.Index(raw.images["image_id"], name="image_id"))
    labels.columns = pd.Index(map(str, labels.columns))
    return Dataset(
        name=settings.name or name,
        root=settings.root,
        images=raw.images[IMAGE_COLUMNS],
        labels=labels,
        boxes=raw.boxes[box_columns(raw.boxes)].reset_index(drop=True),
        excluded=excluded,
        counts=dict(problems.counts),
    )


def _unique_images(raw: RawTables, wanted: Mask | None, problems: Problems) -> RawTables:
    """The wanted images, each once; none of those whose rows differ."""
    ids = raw.images["image_id"]
    kept = np.ones(len(ids), dtype=bool) if wanted is None else wanted
    again = ids.duplicated().to_numpy()
    if again.any():
        labels = raw.labels.set_axis(raw.images.index).add_prefix("label of ")  # a finding may be called "view"
        rows = pd.concat([raw.images, labels], axis=1)
        differing = keyed_rows(rows, ids, problems).contradicts(ids)
        problems.add_all(ids[again & ~differing].tolist(), DUPLICATE_ROW)
        kept = kept & ~again & ~differing
    return raw.keep(kept)


def _unique_files(raw: RawTables, problems: Problems) -> RawTables:
    """Each file once; paths get their shortest spelling."""
    raw = replace(raw, images=raw.images.assign(path=raw.images["path"].map(normal_path)))
    again = raw.images.duplicated(["path", "region"])
    if not again.any():
        return raw
    problems.add_all(raw.images.loc[again, "path"].tolist(), DUPLICATE_FILE)
    return raw.keep(~again)


def _inside_root(raw: RawTables, settings: DataSettings, problems: Problems) -> RawTables:
    outside = np.array([leaves(path) for path in raw.images["path"]], dtype=bool)
    if settings.check_files != "none":
        outside |= leave_by_link(settings.root, raw.images["path"])
    if not outside.any():
        return raw
    problems.add_all(raw.images.loc[outside, "path"].tolist(), OUTSIDE_ROOT)
    return raw.keep(~outside)


def _unique_content(raw: RawTables, settings: DataSettings, problems: Problems) -> RawTables:
    earlier = same_content(settings.root, raw.images["path"])
    if not earlier:
        return raw
    problems.add_all([f"{path} (as {first})" for path, first in earlier.items()], SAME_CONTENT)
    return raw.keep(~raw.images["path"].isin(earlier))


def _evenly_spaced(raw: RawTables, max_images: int | None) -> RawTables:
    num = len(raw.images)
    if max_images is None or num <= max_images:
        return raw
    chosen = np.zeros(num, dtype=bool)
    chosen[np.arange(max_images) * num // max_images] = True
    return raw.keep(chosen)


def _existing_files(raw: RawTables, settings: DataSettings, problems: Problems) -> RawTables:
    if settings.check_files == "none":
        return raw
    exist = files_exist(settings.root, raw.images["path"])
    if exist.all():
        return raw
    missing = raw.images.loc[~exist, "path"]
    problems.add_all([with_other_spelling(settings.root, path) for path in missing], MISSING)
    return raw.keep(exist)


def _measured(raw: RawTables, settings: DataSettings, problems: Problems) -> RawTables:
    """Fit boxes into their images; reads only the image headers that are needed."""
    if raw.frame_source == "dicom":
        paths = dict(zip(raw.images["image_id"], raw.images["path"], strict=True))
        require_dicom(raw.boxes, paths, source=problems.source)
    has_frame = "frame_h" in raw.boxes.columns
    if settings.check_files == "none" and not has_frame:
        return raw
    has_boxes = raw.images["image_id"].isin(raw.boxes["image_id"])
    wanted = raw.images if settings.check_files == "header" else raw.images[has_boxes]
    sizes = read_sizes(settings.root, wanted["path"])
    problems.add_all(sizes.reasons.values(), UNREADABLE)
    problems.count(TURNED, sizes.num_turned)
    raw = raw.keep(~raw.images["path"].isin(sizes.reasons)) if sizes.reasons else raw
    path_of = dict(zip(raw.images["image_id"], raw.images["path"], strict=True))
    sizes_of = {image_id: sizes.hw[path] for image_id, path in path_of.items() if path in sizes.hw}
    if raw.frame_source == "presumed":
        refuse_far_boxes(raw.boxes, sizes_of, source=problems.source)
    return replace(raw, boxes=fit_into_images(raw.boxes, sizes_of, problems))
