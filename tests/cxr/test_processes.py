import os
import signal

import pytest

from cxr.config import UserError
from cxr.processes import map_in_processes


def doubled_unless_deadly(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_no_items() -> None:
    assert list(map_in_processes(doubled_unless_deadly, [], num_workers=1)) == []


def test_results_come_in_order_until_a_process_dies() -> None:
    found = []
    with pytest.raises(UserError, match="a worker process died") as told:
        for result in map_in_processes(doubled_unless_deadly, [3, 1, 2, 5], num_workers=1):
            found.append(result)
    assert found == [6, 2, 4][: len(found)]
    assert f"after number {len(found)};" in str(told.value)
