"""Progress: the bar on a terminal, and the log lines anywhere else."""

import io
import logging
import sys
import threading
import time

import pytest

from cxr.progress import progress_text, track


class FakeTerminal(io.StringIO):
    """A wide terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    """Called in the test itself: between a fixture and its test pytest sets stderr anew."""
    fake = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", fake)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    return fake


def test_no_items(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    assert list(track([], "nothing")) == []


def test_all_items_come_in_order_whether_shown_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert list(track(iter(range(5)), "counting", total=5, show=False)) == [0, 1, 2, 3, 4]


def test_a_terminal_sees_description_count_time_left_speed_and_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    batches = [[0] * 4, [0] * 4, [0] * 2]
    note = "val/auroc 0.812 [not markup]"
    assert list(track(batches, "epoch 2 of 9", note=note, images_in=len)) == batches
    shown = terminal.getvalue()
    for piece in ("epoch 2 of 9", "0/3", "3/3", "elapsed", "left", "images/s", note):
        assert piece in shown


def test_images_a_second_count_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = on_terminal(monkeypatch), 100.0
    monkeypatch.setattr("cxr.progress.time.perf_counter", lambda: now)
    for _ in track([4, 4], "epoch", images_in=lambda item: item):
        now += 2.0
    assert "2 images/s" in terminal.getvalue()


def test_short_work_in_a_pipe_logs_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raybox")
    assert list(track([1, 2], "epoch", note="val/auroc 0.8", images_in=lambda item: item)) == [1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert not caplog.records


def test_long_work_in_a_pipe_logs_lines_also_during_one_item(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raybox")
    monkeypatch.setattr("cxr.progress.LOG_EVERY_S", 0.01)
    for number in track(range(3), "maps", images_in=lambda _: 4):
        deadline = time.perf_counter() + 20
        while not any(f"maps: {number} of 3 done" in message for message in caplog.messages):
            assert time.perf_counter() < deadline
            time.sleep(0.005)
    assert any("left" in message and "images/s" in message for message in caplog.messages)
    num_lines = len(caplog.messages)
    time.sleep(0.05)
    assert len(caplog.messages) == num_lines  # no line after the end


def test_lines_end_with_a_loop_that_is_left_early(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raybox")
    monkeypatch.setattr("cxr.progress.LOG_EVERY_S", 0.01)
    before = threading.active_count()
    tracked = track(range(3), "maps")
    next(iter(tracked))
    assert threading.active_count() == before + 1
    tracked.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "text"),
    [
        (0, 0, 0.0, "0 of 0 done, 0 s elapsed"),
        (0, 7, 31.0, "0 of 7 done, 31 s elapsed"),
        (1500, None, 61.2, "1,500 done, 1 min 01 s elapsed"),
        (30, 120, 60.0, "30 of 120 done, 1 min 00 s elapsed, about 3 min 00 s left"),
        (1, 3, 3600.0, "1 of 3 done, 1 h 00 min elapsed, about 2 h 00 min left"),
        (8, 7, 10.0, "8 of 7 done, 10 s elapsed"),
    ],
)
def test_progress_as_text(done: int, total: int | None, elapsed_s: float, text: str) -> None:
    assert progress_text(done, total, elapsed_s) == text


def test_an_error_in_the_loop_passes_through_and_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        for _ in track([1, 2], "epoch"):
            raise ZeroDivisionError
    assert list(track([1], "next")) == [1]  # rich allows one live display at a time
