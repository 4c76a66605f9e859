"""The labeller with its own cue tables, loaded once per process."""

import pytest

from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.tables import load_tables


@pytest.fixture(scope="session")
def label() -> ReportLabeller:
    return ReportLabeller(load_tables())
