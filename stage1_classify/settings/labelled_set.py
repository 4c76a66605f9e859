"""Settings of the evaluation of a finished classifier on another labelled data set."""

from collections.abc import Sequence
from pathlib import Path

from cxr.config import Settings, load_config
from cxr.datasets import AnyData
from cxr.splits import SplitSettings
from cxr.yaml_files import read_yaml
from stage1_classify.settings.classifier import LabelSettings, Stage1Settings

ALL = "all"


class LabelledSetSettings(Settings):
    """A labelled data set, or a part of it."""

    data: AnyData
    split: SplitSettings | None = None
    """None: the whole data set is evaluated."""
    part: str = "test"
    """The part of `split` that is evaluated; all: every image of the data set."""
    labels: LabelSettings = LabelSettings()
    """`not_mentioned` says what a blank label is. Uncertain labels do not count."""


def load_labelled_set(path: Path, overrides: Sequence[str] = (), *, part: str | None = None) -> LabelledSetSettings:
    """Read a file with these keys, or a settings file of stage 1, of which `data`, `split` and `labels` count.

    part: in place of that of the file.

    Raises:
        UserError: see `load_config`.
    """
    values = read_yaml(path)
    if isinstance(values, dict) and "backbone" in values:
        stage1 = load_config(Stage1Settings, path, overrides)
        settings = LabelledSetSettings(data=stage1.data, split=stage1.split, labels=stage1.labels)
    else:
        settings = load_config(LabelledSetSettings, path, overrides)
    return settings if part is None else settings.model_copy(update={"part": part})
