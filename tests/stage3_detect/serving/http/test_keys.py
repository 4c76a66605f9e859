"""API keys: the file, and which routes ask for a key."""

import hashlib
import stat
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serving.http.keys import add_key, read_keys
from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.serving.services import files, running


def test_a_file_without_keys_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    with pytest.raises(UserError, match="no file"):
        read_keys(path)
    path.write_text("# nothing\n\n")
    with pytest.raises(UserError, match="no key"):
        read_keys(path)


def test_a_new_key_is_kept_as_its_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    keys = {name: add_key(path, name) for name in ("ward-3", "archive")}
    digests = [f"{name} {hashlib.sha256(key.encode()).hexdigest()}" for name, key in keys.items()]
    assert path.read_text().splitlines() == digests
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ring = read_keys(path)
    assert {name: ring.name_of(key) for name, key in keys.items()} == {"ward-3": "ward-3", "archive": "archive"}
    assert [ring.name_of(key) for key in ("", keys["ward-3"][:-1], digests[0][-64:], "é")] == [None] * 4


def test_a_last_line_without_end_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("old " + 64 * "a")
    key = add_key(path, "new")
    assert read_keys(path).name_of(key) == "new"


def test_a_key_is_added_to_a_file_with_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_bytes(b"# caf\xe9\n")
    add_key(path, "ward-3")
    assert path.read_bytes().startswith(b"# caf\xe9\nward-3 ")


def test_a_name_is_short_and_new(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    add_key(path, "ward")
    for name in ("ward", "", "a b", "a\nb", 41 * "a"):
        with pytest.raises(UserError):
            add_key(path, name)
    assert len(path.read_text().splitlines()) == 1


def test_bad_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    good = "a" * 64
    path.write_text(f"one {good}\none {good}\ntwo {good[:-1]}\nthree\n")
    with pytest.raises(UserError) as caught:
        read_keys(path)
    assert [f"line {number}" in problem for number, problem in zip((2, 3, 4), caught.value.problems, strict=True)] == [
        True, True, True,
    ]  # fmt: skip


def test_a_running_service_follows_the_file(
    model: ServedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.txt"
    first = add_key(path, "first")
    with running(model, api_keys=path) as service, service.client() as client:

        def status(key: str) -> int:
            return client.get("/v1/model", headers={"authorization": f"Bearer {key}"}).status_code

        assert status(first) == 200
        second = add_key(path, "second")
        assert [status(key) for key in (first, second)] == [200, 200]
        path.write_text(path.read_text().splitlines()[1] + "\n")
        assert [status(key) for key in (first, second)] == [401, 200]
        path.write_text("damaged")
        assert [status(key) for key in (first, second)] == [401, 200]
        path.unlink()
        assert [status(key) for key in (first, second)] == [401, 200]
        third = add_key(path, "third")
        assert [status(key) for key in (second, third)] == [401, 200]
        for nothing in ("# all keys are withdrawn\n", ""):
            path.write_text(nothing)
            assert status(third) == 401
        fourth = add_key(path, "fourth")
        assert [status(key) for key in (third, fourth)] == [401, 200]
    errors = [record for record in caplog.records if "former" in record.message]
    assert len(errors) == 2


def test_which_routes_need_a_key(model: ServedModel, tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    key = add_key(path, "ward")
    with running(model, api_keys=path) as service, service.client() as client:
        for route in ("/healthz", "/readyz"):
            assert client.get(route).status_code == 200
        assert client.get("/static/../v1/model").status_code == 401
        assert client.get("/").status_code != 401
        for route in ("/v1/model", "/metrics", "/openapi.json", "/nothing", "/v1/examples", "/healthz/"):
            answer = client.get(route)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), route
        for value in (key, f"Basic {key}", f"Bearer {key[:-1]}", "Bearer", f"Bearer {key} x"):
            sent = {"authorization": value}
            assert client.post("/v1/detections", files=files("a.png"), headers=sent).status_code == 401, value
        for value in (f"Bearer {key}", f"bearer  {key}"):
            sent = {"authorization": value}
            assert client.post("/v1/detections", files=files("a.png"), headers=sent).status_code == 200
