"""The labeller with its own cue tables, loaded once per process."""

import pytest

from stage1_classify.reports.label_table import labeller_of
from stage1_classify.reports.labeller import ReportLabeller


@pytest.fixture(scope="session")
def label() -> ReportLabeller:
    return labeller_of(None)
