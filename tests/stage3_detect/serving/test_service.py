"""The whole service against hundreds of broken requests, drawn from a fixed seed; the script sends 10,000."""

from pathlib import Path

from tests.benchmarks.fuzz_service import SHORT_LIMITS, fuzz
from tests.benchmarks.service_process import running_process


def test_no_broken_request_gets_5xx_or_hangs(bundle_alone: Path, tmp_path: Path) -> None:
    corrections = ("--corrections", str(tmp_path / "corrections"))
    with running_process(bundle_alone, "--maps", *corrections, "--set", *SHORT_LIMITS) as service:
        found = fuzz(service, num_requests=200, seed=0)
        assert service.stop() == 0
    assert found.problems == []
    assert sum(found.statuses.values()) > 120
    assert {"200", "400", "404", "408", "413", "415", "422"} <= {status for _, status in found.statuses}
