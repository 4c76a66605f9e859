"""The route: what it answers, and that the reading is on disk before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cxr.config import UserError
from stage3_detect.serving.app import make_app
from stage3_detect.serving.correction_store import open_readings
from stage3_detect.serving.settings import Limits, ServiceSettings
from tests.stage3_detect.serving.correction_builders import box, body
