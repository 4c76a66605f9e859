"""Progress bars: what a terminal shows, and that nothing else sees them."""

import io
import sys

import pytest

from cxr.progress import track


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


def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "epoch", note="val/auroc 0.8", images_in=lambda item: item)) == [1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_an_error_in_the_loop_passes_through_and_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        for _ in track([1, 2], "epoch"):
            raise ZeroDivisionError
    assert list(track([1], "next")) == [1]  # rich allows one live display at a time
