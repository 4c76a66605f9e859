"""The type of `metrics.json`; docs/run_folder.md lists the names."""

from collections.abc import Mapping

Metrics = dict[str, float | None]
"""Name -> value; None where it is unknown. What a function makes."""
ReadMetrics = Mapping[str, float | None]
"""The same where a function only reads."""
