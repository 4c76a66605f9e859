"""Threads of the service and what it has accepted."""

import asyncio
import threading

import pytest

from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.settings import Limits


def test_places_are_given_back_after_errors() -> None:
    workers = Workers(1, Limits(max_accepted=1, max_accepted_bytes=10))
    with pytest.raises(ZeroDivisionError), workers.accept(10):
        assert (workers.num_accepted, workers.num_accepted_bytes) == (1, 10)
        raise ZeroDivisionError
    assert (workers.num_accepted, workers.num_accepted_bytes) == (0, 0)


@pytest.mark.parametrize(("num_bytes", "status"), [((4, 6), None), ((4, 7), 429), ((1, 1, 1, 1), 429)])
def test_limits_on_number_and_bytes(num_bytes: tuple[int, ...], status: int | None) -> None:
    workers = Workers(1, Limits(max_accepted=3, max_accepted_bytes=10))
    places = [workers.accept(number) for number in num_bytes]
    for place in places[:-1]:
        place.__enter__()
    if status is None:
        places[-1].__enter__()
        return
    with pytest.raises(Refusal) as caught:
        places[-1].__enter__()
    assert (caught.value.status, caught.value.headers) == (status, {"Retry-After": "2"})


def test_one_request_may_exceed_the_limit_on_bytes_of_all() -> None:
    workers = Workers(1, Limits(max_accepted_bytes=10))
    with workers.accept(11):
        assert workers.num_accepted_bytes == 11


def test_work_runs_off_the_event_loop_and_the_waiting_is_counted() -> None:
    workers = Workers(2, Limits())
    go, seen = threading.Event(), []

    def work() -> int:
        seen.append(threading.get_ident())
        assert go.wait(timeout=10)
        return len(seen)

    async def several() -> list[int]:
        tasks = [asyncio.create_task(workers.run(work)) for _ in range(5)]
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        assert workers.num_waiting == 3
        go.set()
        return await asyncio.gather(*tasks)

    asyncio.run(several())
    workers.close()
    assert workers.num_waiting == 0
    assert threading.get_ident() not in seen
    assert len(set(seen)) == 2


def test_boxes_do_not_wait_for_maps() -> None:
    workers = Workers(1, Limits())
    go = threading.Event()

    async def both() -> tuple[int, bool]:
        maps = asyncio.create_task(workers.run(lambda: go.wait(timeout=10), is_map=True))
        boxes = await workers.run(lambda: 3)
        go.set()
        return boxes, await maps

    assert asyncio.run(both()) == (3, True)
    workers.close()


def test_after_the_time_limit_waiting_work_is_dropped() -> None:
    workers = Workers(1, Limits(processing_timeout_s=0.05))
    go, ran = threading.Event(), []

    async def several() -> list[object]:
        first = workers.run(lambda: go.wait(timeout=10))
        second = workers.run(lambda: ran.append(1))
        return list(await asyncio.gather(first, second, return_exceptions=True))

    results = asyncio.run(several())
    assert [result.status for result in results if isinstance(result, Refusal)] == [503, 503]
    assert workers.num_waiting == 0
    go.set()
    workers.close()
    assert ran == []
