"""Routes of the reading page, without a browser."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from cxr.config import UserError
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.http.pages import MEDIA_TYPES, example_paths
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.settings import ServiceSettings
from tests.paths import ROOT
from tests.stage3_detect.serving.page.test_truth import write

STATIC = ROOT / "stage3_detect/serving/page/static"


@pytest.fixture(scope="module")
def model(bundle: Path) -> ServedModel:
    return open_model(bundle, num_threads=1)


@pytest.fixture(scope="module")
def client(model: ServedModel) -> Iterator[TestClient]:
    with TestClient(make_app(model, ServiceSettings()), base_url="http://127.0.0.1") as client:
        yield client


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def reading(client: TestClient, data: bytes, **query: str) -> tuple[dict[str, Any], bytes]:
    """Header and pixels."""
    answer = client.post("/page/readings", files={"file": ("a.png", data)}, params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    end = 4 + int.from_bytes(answer.content[:4], "little")
    assert end % 4 == 0
    return json.loads(answer.content[4:end]), answer.content[end:]


def test_the_page_and_its_files_are_served_and_kept_by_the_browser(client: TestClient) -> None:
    for path in STATIC.iterdir():
        url = "/" if path.name == "index.html" else f"/static/{path.name}"
        answer = client.get(url)
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == MEDIA_TYPES[path.suffix]
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "index.html", "..%2fpages.py", "%2e%2e/pages.py", ""])
def test_nothing_else_is_served_as_a_file_of_the_page(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_scripts_styles_and_images_are_its_own() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert " style=" not in page
    assert " onclick=" not in page
    assert page.count("<script") == page.count('<script type="module" src="static/')
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "innerHTML" not in text
        assert text.count("\n") < 300


def test_every_module_that_is_imported_exists() -> None:
    names = {path.name for path in STATIC.iterdir()}
    for path in STATIC.glob("*.js"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("import ") and " from " in line:
                assert line.rsplit('"./', 1)[1].rstrip('";') in names, line


def test_a_reading_has_the_boxes_of_detections_and_the_pixels(client: TestClient, model: ServedModel) -> None:
    image = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) + 7
    header, pixels = reading(client, png(image))
    answer = client.post("/v1/detections", files={"files": ("a.png", png(image))}).json()
    assert header["model"] == answer["model"]
    assert header["image"] == answer["images"][0]
    assert header["image_sha256"] == hashlib.sha256(png(image)).hexdigest()
    assert header["picture"] == {"width_px": 9, "height_px": 6, "dtype": "uint8"}
    stretched = np.round((image.astype(float) - 7) * 255 / 53).astype(int)
    assert np.abs(np.frombuffer(pixels, np.uint8).reshape(6, 9).astype(int) - stretched).max() <= 1


def test_pixels_of_16_bits_are_little_endian_and_at_most_2048_long(client: TestClient) -> None:
    image = np.zeros((40, 3000), dtype=np.uint16)
    image[:, 1500:] = 4000
    header, pixels = reading(client, png(image))
    assert header["picture"] == {"width_px": 2048, "height_px": 27, "dtype": "uint16"}
    assert (header["image"]["width_px"], header["image"]["height_px"]) == (3000, 40)
    values = np.frombuffer(pixels, "<u2").reshape(27, 2048)
    assert values[13, [0, 1000, 1050, 2047]].tolist() == [0, 0, 65535, 65535]


def test_a_file_that_cannot_be_read_is_answered_with_a_sentence(client: TestClient) -> None:
    header, pixels = reading(client, b"no image")
    assert sorted(header["image"]) == ["error", "name"]
    assert header["image"]["name"] == "a.png"
    assert pixels == b""


def test_one_file_and_a_known_point_are_required(client: TestClient) -> None:
    two = [("file", ("a.png", b"1")), ("file", ("b.png", b"2"))]
    assert client.post("/page/readings", files=two).status_code == 413
    assert client.post("/page/readings", files={"files": ("a.png", b"1")}).status_code == 422
    assert client.post("/page/readings", files={"file": ("a.png", b"1")}, params={"point": "x"}).status_code == 422


def test_without_examples_and_truth_there_are_none(client: TestClient) -> None:
    assert client.get("/v1/examples").json() == {"examples": []}
    assert client.get("/v1/truth", params={"name": "a.png"}).json() == {"boxes": []}
    assert client.get("/v1/examples/a.png").status_code == 404
    assert client.get("/v1/truth").status_code == 422


def test_examples_and_truth(model: ServedModel, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    for name in ("two.png", "other.png", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret.png").write_bytes(b"secret")
    settings = ServiceSettings(examples=folder, truth=write(tmp_path / "coco.json"))
    with TestClient(make_app(model, settings), base_url="http://127.0.0.1") as client:
        expected = [{"name": "other.png", "has_truth": False}, {"name": "two.png", "has_truth": True}]
        assert client.get("/v1/examples").json() == {"examples": expected}
        assert client.get("/v1/examples/two.png").content == b"two.png"
        for name in ("notes.txt", "..%2fsecret.png", "%2e%2e/secret.png", "inner"):
            assert client.get(f"/v1/examples/{name}").status_code == 404
        box = {"finding": "Edema", "box_xyxy": [10.0, 20.0, 40.0, 25.5]}
        assert client.get("/v1/truth", params={"name": "two.png"}).json() == {"boxes": [box]}


def test_an_example_that_was_removed_and_a_name_that_is_no_text(model: ServedModel, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    app = make_app(model, ServiceSettings(examples=tmp_path))
    (tmp_path / "a.png").unlink()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/v1/examples/a.png").status_code == 404
    (tmp_path / "b\udcff.png").write_bytes(b"b")
    with pytest.raises(UserError, match="rename"):
        example_paths(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="--examples"):
            example_paths(folder)
