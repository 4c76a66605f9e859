"""A crash in one of several decoding threads: which image is named, and what the next call of the same command does."""

import signal
from pathlib import Path

import pytest

from cxr.config import Settings, UserError
from cxr.crashes import crash_file, read_named, report_crashes, watch_folder
from cxr.imaging.files import read_image
from cxr.imaging.pictures import Pictures, decodable
from cxr.imaging.settings import InputSettings
from cxr.runs.run_folder import Run, start_run
from tests.crashing import DEADLY, crash_decoder, exit_code_of
from tests.cxr.imaging.test_cache import images_of, make_images

SEGFAULT = -signal.SIGSEGV


class Own(Settings):
    seed: int = 1


def start(folder: Path) -> Run:
    return start_run(folder, stage="stage1", settings=Own(), inputs={})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images, the eighth of which crashes the decoder."""
    make_images(tmp_path / "data", count=12)
    with (tmp_path / "data" / "i007.png").open("ab") as file:
        file.write(DEADLY)
    crash_decoder(monkeypatch)
    return tmp_path / "data"


def test_without_a_crash_nothing_is_reported_and_nothing_stays(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    assert read_named("a.png", lambda: 7) == 7
    assert crash_file("a.png") is None
    run.release()
    assert not list((tmp_path / "run").glob(".crash*"))


@pytest.mark.parametrize("cache", [None, "cache"])
def test_the_next_call_refuses_the_one_image_that_crashed(root: Path, tmp_path: Path, cache: str | None) -> None:
    settings = InputSettings(size_hw=(24, 40), cache_dir=cache and tmp_path / cache)
    data = images_of(root)

    def call() -> list[str]:
        run = start(tmp_path / "run")
        try:
            used = decodable(data, settings, on_problem="exclude")
            assert len(Pictures(used, settings)) == len(used.images)
            return [one.what for one in used.excluded]
        finally:
            run.release()

    assert exit_code_of(call) == SEGFAULT
    assert call() == ["i007"] == call()
    (tmp_path / "run" / ".crash_0.txt").unlink()  # as the message says
    assert exit_code_of(call) == SEGFAULT


def test_the_error_names_the_image_and_the_file_to_delete(root: Path, tmp_path: Path) -> None:
    def call() -> None:
        start(tmp_path / "run")
        read_image(root / "i007.png")

    assert exit_code_of(call) == SEGFAULT
    run = start(tmp_path / "run")
    with pytest.raises(UserError) as error:
        read_image(root / "i007.png")
    assert str(root / "i007.png") in str(error.value) and str(tmp_path / "run" / ".crash_0.txt") in str(error.value)
    assert read_image(root / "i006.png").shape == (48, 60)
    run.release()
    assert crash_file(str(root / "i007.png")) is None


@pytest.mark.parametrize("name", ["x" * 2000 + ".png", 'Ä\n"><\udcff.png'], ids=["long", "no ASCII"])
def test_any_name_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    other = name.replace(".", "_.")

    def call() -> None:
        watch_folder(tmp_path)
        read_named(other, lambda: None)
        read_named(name, lambda: signal.raise_signal(signal.SIGSEGV))

    assert exit_code_of(call) == SEGFAULT
    end = watch_folder(tmp_path)
    assert crash_file(name) == tmp_path / ".crash_0.txt" and crash_file(other) is None
    end()


def test_a_crash_outside_of_a_decoder_names_none(tmp_path: Path) -> None:
    def call() -> None:
        watch_folder(tmp_path)
        read_named("a.png", lambda: None)
        signal.raise_signal(signal.SIGABRT)

    assert exit_code_of(call) == -signal.SIGABRT
    end = watch_folder(tmp_path)
    assert crash_file("a.png") is None
    end()


def test_the_outer_run_is_watched_again_after_the_inner_one(tmp_path: Path) -> None:
    def call() -> None:
        outer, inner = start(tmp_path / "run"), start(tmp_path / "run" / "round1")
        inner.release()
        assert outer.state == "fresh"
        read_named("a.png", lambda: signal.raise_signal(signal.SIGSEGV))

    assert exit_code_of(call) == SEGFAULT
    assert (tmp_path / "run" / ".crash_0.txt").stat().st_size
    assert not (tmp_path / "run" / "round1" / ".crash_0.txt").exists()


def test_each_process_of_a_run_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> None:
        watch_folder(tmp_path)
        read_named("a.png", lambda: signal.raise_signal(signal.SIGSEGV))

    monkeypatch.setenv("RANK", "1")
    assert exit_code_of(call) == SEGFAULT
    monkeypatch.delenv("RANK")
    end = watch_folder(tmp_path)
    assert crash_file("a.png") == tmp_path / ".crash_1.txt"
    end()


def test_a_command_without_a_run_names_the_image_at_the_crash(capfd: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        report_crashes()
        read_named("scans/a.png", lambda: signal.raise_signal(signal.SIGSEGV))

    assert exit_code_of(call) == SEGFAULT
    assert "scans/a.png" in capfd.readouterr().err
