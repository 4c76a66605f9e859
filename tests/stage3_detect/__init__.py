"""Tests of stage 3. The package is imported first: it turns off what ultralytics does on import."""

import stage3_detect  # noqa: F401
