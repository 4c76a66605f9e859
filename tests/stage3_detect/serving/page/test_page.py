"""The reading page in a browser, against the service as a process."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser

from eval.report.captions import percent
from stage3_detect.serving.corrections.log import read_records
from stage3_detect.serving.http.keys import add_key
from stage3_detect.serving.model.bundle_model import BundleModel, open_model
from stage3_detect.serving.model.images import decode_image
from tests.stage3_detect.prediction.run_builders import write_settled_weights
from tests.stage3_detect.serving.chain_builders import make_bundle
from tests.stage3_detect.serving.page.browsing import (
    DROP,
    HOW_TO_GET_IT,
    Reader,
    browsing,
    chromium,
    is_required,
    reading,
    serving,
    shown,
)

if chromium() is None and not is_required():
    pytest.skip(HOW_TO_GET_IT, allow_module_level=True)

LESION, EFFUSION = "Nodule/Mass", "Pleural Effusion"
WIDTH, HEIGHT = 500, 300
TRUTH_XYXY = (50.0, 30.0, 150.0, 90.0)
MAX_REQUEST_BYTES = 1_500_000


def noise(seed: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size_hw).astype(np.uint8)


def with_boxes(model: BundleModel, size_hw: tuple[int, int]) -> Iterator[bytes]:
    """PNG files of noise in which the untrained detector shows 3 to 8 boxes, of both findings, and has others."""
    for seed in range(1000):
        data = cv2.imencode(".png", noise(seed, size_hw))[1].tobytes()
        found = model.detect(decode_image(data, "noise.png", max_pixels=size_hw[0] * size_hw[1]))
        boxes = [box for box in found if box.shown]
        if {box.finding for box in boxes} == {LESION, EFFUSION} and 3 <= len(boxes) <= 8 and len(found) > len(boxes):
            yield data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without its runs, so that the service needs no PyTorch."""
    made = make_bundle(tmp_path_factory.mktemp("page"), write=write_settled_weights)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("alone") / "bundle"))


@pytest.fixture(scope="module")
def images(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for the page: noise in which boxes are found, blocks of known grey, a large file and a damaged one."""
    folder = tmp_path_factory.mktemp("images")
    detector = open_model(model, num_threads=1)
    noisy = with_boxes(detector, (HEIGHT, WIDTH))
    for name in ("noise.png", "other.png", "third.png"):
        (folder / name).write_bytes(next(noisy))
    (folder / "prior.png").write_bytes(next(with_boxes(detector, (2 * HEIGHT, WIDTH * 4 // 5))))
    assert cv2.imwrite(str(folder / "heavy.png"), noise(0, (1400, 1400)))
    blocks = np.kron([[0, 50, 100], [150, 200, 255]], np.ones((100, 100))).astype(np.uint8)
    assert cv2.imwrite(str(folder / "blocks.png"), blocks)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service saves corrections."""
    return tmp_path_factory.mktemp("corrections")


@pytest.fixture(scope="module")
def address(model: Path, images: Path, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    x1, y1, x2, y2 = TRUTH_XYXY
    document = {
        "images": [{"id": 1, "file_name": "folder/third.png"}],
        "categories": [{"id": 1, "name": EFFUSION}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}],
    }
    truth = tmp_path_factory.mktemp("truth") / "coco.json"
    truth.write_text(json.dumps(document), encoding="utf-8")
    options = ["--maps", "--threads", 1, "--corrections", saved, "--truth", truth, "--examples", images]
    with serving(model, *map(str, options), "--set", f"max_request_bytes={MAX_REQUEST_BYTES}") as address:
        noisy = {"file": ("noise.png", (images / "noise.png").read_bytes())}
        httpx.post(f"{address}/v1/maps", files=noisy, timeout=120).raise_for_status()  # the first one loads the network
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert chromium(), HOW_TO_GET_IT
    with browsing() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, address: str) -> Iterator[Reader]:
    with reading(browser, address) as reader:
        yield reader


def detections(address: str, path: Path) -> list[dict[str, Any]]:
    """What the service answers for a file."""
    files = {"files": (path.name, path.read_bytes())}
    answer = httpx.post(f"{address}/v1/detections", files=files).raise_for_status().json()
    return list(answer["images"][0]["detections"])


# --- boxes ---


def test_before_an_image_the_page_says_what_it_is_for(reader: Reader) -> None:
    assert reader.marks().count() == 0
    assert "research" in reader.page.locator("#research").inner_text()
    assert "computer-generated" in reader.page.locator("#synthetic").inner_text()
    assert reader.page.locator("#welcome").is_visible()


def test_boxes_are_drawn_at_their_pixels_without_a_click(reader: Reader, images: Path) -> None:
    expected = shown(detections(reader.address, images / "noise.png"))
    assert len(expected) > 2
    reader.drop(images / "noise.png")
    np.testing.assert_allclose(reader.boxes_on_image(), expected, atol=0.01)
    assert reader.state("[app.clicks, app.readings[0].clicksToBoxes]") == [0, 0]


def test_captions_do_not_overlap(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    places = [rect.bounding_box() for rect in reader.page.locator(".caption > rect").all()]
    assert len(places) == reader.marks().count()
    for index, a in enumerate(places):
        for b in places[:index]:
            assert a
            assert b
            apart = a["x"] >= b["x"] + b["width"] or b["x"] >= a["x"] + a["width"]
            assert apart or a["y"] >= b["y"] + b["height"] or b["y"] >= a["y"] + a["height"]


def test_the_image_is_shown_in_its_greys_and_inverted_by_key(reader: Reader, images: Path) -> None:
    reader.drop(images / "blocks.png")
    place = reader.page.locator(".tile").bounding_box()
    assert place
    scale = min(place["width"] / 300, place["height"] / 200)
    for column, row, grey in ((0, 0, 0), (1, 0, 50), (2, 0, 100), (0, 1, 150), (1, 1, 200), (2, 1, 255)):
        x = 0.5 + (100 * column + 50 - 150) * scale / place["width"]
        y = 0.5 + (100 * row + 50 - 100) * scale / place["height"]
        assert reader.pixel("base", x, y)[0] == pytest.approx(grey, abs=1)
        reader.page.keyboard.press("i")
        assert reader.pixel("base", x, y)[0] == pytest.approx(255 - grey, abs=1)
        reader.page.keyboard.press("i")


def test_marks_hide_and_come_back_by_key(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    count = reader.marks().count()
    reader.page.keyboard.press("h")
    assert reader.marks().count() == 0
    assert reader.page.locator("#hide").get_attribute("aria-pressed") == "true"
    reader.page.keyboard.press("h")
    assert reader.marks().count() == count


# --- findings and heat maps ---


def shares(reader: Reader) -> set[str | None]:
    """Findings of the boxes that are visible."""
    return {mark.get_attribute("data-finding") for mark in reader.marks().all()}


def test_pointing_at_a_finding_isolates_it_and_shows_its_map(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    assert shares(reader) == {LESION, EFFUSION}
    row = reader.page.locator(f".finding[data-finding='{EFFUSION}']")
    row.hover()
    reader.page.locator(f".tile[data-map='{EFFUSION}']").wait_for()
    assert shares(reader) == {EFFUSION}
    assert row.get_attribute("aria-selected") == "true"
    image = np.array([reader.pixel("heat", x, 0.5)[3] for x in np.linspace(0.02, 0.98, 25)])
    assert image.max() > 0
    reader.page.locator("#help").hover()
    assert shares(reader) == {LESION, EFFUSION}
    assert [reader.pixel("heat", x, 0.5)[3] for x in np.linspace(0.02, 0.98, 25)] == [0] * 25


def test_the_keyboard_does_the_same(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    keys = reader.page.keyboard
    keys.press("ArrowUp")
    assert shares(reader) == {EFFUSION}
    reader.page.locator(f".tile[data-map='{EFFUSION}']").wait_for()
    keys.press("m")
    assert reader.page.locator(".tile").get_attribute("data-map") == ""
    keys.press("ArrowDown")
    assert shares(reader) == {LESION}
    keys.press("Escape")
    assert shares(reader) == {LESION, EFFUSION}
    reader.page.locator(".finding").first.focus()
    assert shares(reader) == {LESION}


def test_pointing_at_a_caption_isolates_one_box(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    caption = reader.page.locator(".caption").first
    name = caption.get_attribute("data-id")
    caption.locator("rect").hover(force=True)
    assert [mark.get_attribute("data-id") for mark in reader.marks().all()] == [name]


def test_a_map_fades_where_neither_classifier_nor_detector_is_sure(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    strongest = """() => document.querySelector(".tile canvas.heat").getContext("2d").getImageData(0, 0, 950, 730)
        .data.reduce((most, value, index) => index % 4 === 3 ? Math.max(most, value) : most, 0)"""
    full = 255 * 0.42
    for probability, confidence, expected in ((0.6, 0, full), (0.3, 0, full / 2), (0.3, 0.45, 0.75 * full), (0, 0, 0)):
        found = f"[{{ finding: '{EFFUSION}', confidence: {confidence}, score: 0.9, box_xyxy: [0, 0, 9, 9] }}]"
        reader.state(f"app.readings[0].maps.get('{EFFUSION}').probability = {probability}")
        reader.state(f"(app.readings[0].detections = {found}, app.emit('marks'))")
        reader.page.keyboard.press("ArrowUp")
        assert reader.page.locator(".tile").get_attribute("data-map") == EFFUSION
        assert reader.page.evaluate(strongest) == pytest.approx(expected, abs=3)
        note = reader.page.locator(".map-note").inner_text()
        assert f"classifier {percent(probability)}" in note
        assert f"box {percent(confidence)}" in note
        reader.page.keyboard.press("Escape")


# --- threshold ---


def test_the_knob_is_where_the_operating_point_begins(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    knob, value = reader.page.locator("#threshold"), reader.page.locator("#threshold-value")

    def shown_at() -> tuple[str, bool, bool]:
        """Value of the knob, whether it is faded, and whether a number stands next to it."""
        return knob.input_value(), "unset" in (knob.get_attribute("class") or ""), "%" in value.inner_text()

    assert shown_at() == ("50", True, False)  # the one point of this model has a score for each finding
    knob.fill("60")
    assert (shown_at(), value.inner_text()) == (("60", False, True), "60\u00a0%")
    reader.page.get_by_role("radio").first.click()
    assert shown_at() == ("50", True, False)
    reader.state("(app.model.points.f1.confidence = 0.2486, app.emit('marks'))")
    assert (shown_at(), value.inner_text()) == (("25", False, True), "24.8\u00a0%")


def test_the_panel_says_how_many_boxes_are_shown_and_what_the_image_lacks(reader: Reader, images: Path) -> None:
    names = ("noise.png", "blocks.png", "broken.png")
    sent = [("files", (name, (images / name).read_bytes())) for name in names]
    answers = httpx.post(f"{reader.address}/v1/detections", files=sent).raise_for_status().json()["images"]
    quality = reader.page.locator("#quality")
    for name, answer, kind in zip(names, answers, ("ok", "poor", "error"), strict=True):
        reader.drop(images / name)
        assert quality.get_attribute("data-kind") == kind
        text = quality.inner_text()
        assert text not in reader.page.locator("#status").inner_text()  # it is said once
        if kind == "error":
            assert text == answer["error"]
            continue
        count, reasons = len(shown(answer["detections"])), answer["quality"]["reasons"]
        button = reader.page.locator("#show-withheld")
        if kind == "poor":
            assert (count, text) == (0, f"Not analysed. {' '.join(reasons)}")
            button.click()
            text = quality.inner_text()
            assert reader.state("app.active.detections.length") == len(answer["detections"])
            assert text.split(" ")[0] == "No" or int(text.split(" ")[0]) > 0
        assert not button.is_visible()
        assert kind == "poor" or text.startswith(f"{count} box" if count else "No box")
        assert text.endswith(" ".join(reasons)) and "nothing unusual" not in text  # the model is synthetic
        reader.page.locator("#threshold").fill("100")
        assert quality.inner_text().startswith("No box")
        assert quality.inner_text().endswith(text.split(". ", 1)[1])
        reader.page.get_by_role("radio").first.click()


def test_the_slider_and_the_operating_point_filter_at_once(reader: Reader, images: Path) -> None:
    found = detections(reader.address, images / "noise.png")
    reader.drop(images / "noise.png")
    for value in (0, 35, 60, 95, 100):
        reader.page.locator("#threshold").fill(str(value))
        assert reader.marks().count() == sum(one["confidence"] >= value / 100 for one in found)
    reader.page.get_by_role("radio").first.click()
    assert reader.marks().count() == len(shown(found))
    counts = reader.page.locator(".finding").first.get_attribute("aria-label")
    lesions = sum(one["finding"] == LESION for one in found if one["shown"])
    assert counts
    assert f"{lesions} box" in counts


def test_findings_that_the_point_does_not_show_are_named(reader: Reader, images: Path) -> None:
    note = reader.page.locator("#findings-note")
    reader.drop(images / "noise.png")
    assert note.inner_text() == ""
    measured = f"{{false_per_image: 0.856, low: 0.619, high: 1.113, never_found: ['{LESION}']}}"
    reader.state(f"(Object.assign(app.model.points.f1, {{measured: {measured}}}), app.emit('marks'))")
    assert LESION in note.inner_text() and EFFUSION not in note.inner_text()
    assert "0.86 [0.62, 1.11]" in reader.page.locator("#point-about").inner_text()
    reader.state(f"(app.model.points.f1.scores['{EFFUSION}'] = null, app.emit('marks'))")
    assert "never shown" in (reader.page.locator(f'[data-finding="{EFFUSION}"]').get_attribute("aria-label") or "")
    reader.page.locator("#threshold").fill("60")
    assert note.inner_text() == ""


# --- studies, truth, prior ---


def test_a_study_with_a_file_that_cannot_be_read(reader: Reader, images: Path) -> None:
    names = ("broken.png", "noise.png", "other.png")
    reader.drop(*(images / name for name in names))
    tiles = reader.page.locator(".tile")
    assert [tile.get_attribute("data-status") for tile in tiles.all()] == ["error", "ready", "ready"]
    assert len(tiles.nth(0).locator(".message").inner_text()) > 20
    for index in (1, 2):
        expected = shown(detections(reader.address, images / names[index]))
        np.testing.assert_allclose(reader.boxes_on_image(tile=index), expected, atol=0.01)
    assert reader.page.locator("#image-name").inner_text() == "noise.png"
    reader.page.keyboard.press("ArrowRight")
    assert reader.page.locator("#image-name").inner_text() == "other.png"
    reader.page.keyboard.press("g")
    assert [tile.is_visible() for tile in tiles.all()] == [False, False, True]


def test_truth_is_drawn_dashed(reader: Reader, images: Path) -> None:
    reader.drop(images / "third.png")
    reader.marks("truth").wait_for()
    np.testing.assert_allclose(reader.boxes_on_image("truth"), [TRUTH_XYXY], atol=0.01)
    style = "(element) => getComputedStyle(element).strokeDasharray"
    assert reader.page.locator(".truth .line").evaluate(style) != "none"
    assert reader.marks().locator(".line").first.evaluate(style) == "none"


def test_boxes_of_a_prior_image_are_scaled(reader: Reader, images: Path) -> None:
    expected = [(1.25 * x1, 0.5 * y1, 1.25 * x2, 0.5 * y2)
                for x1, y1, x2, y2 in shown(detections(reader.address, images / "prior.png"))]  # fmt: skip
    reader.drop(images / "noise.png")
    reader.drop(images / "prior.png", on="#prior")
    reader.marks("prior").first.wait_for()
    np.testing.assert_allclose(reader.boxes_on_image("prior"), expected, atol=0.01)
    assert "prior.png" in reader.page.locator("#prior-note").inner_text()
    reader.page.locator("#prior-clear").click()
    assert reader.marks("prior").count() == 0


def delayed(reader: Reader, path: str, *, milliseconds: int) -> None:
    """Let the page get the next answer of a route later."""
    script = """([path, milliseconds]) => {
      const original = window.fetch;
      let isFirst = true;
      window.fetch = async (...given) => {
        const isDelayed = isFirst && String(given[0]).startsWith(path);
        if (isDelayed) isFirst = false;
        const answer = await original(...given);
        if (isDelayed) await new Promise((resolve) => setTimeout(resolve, milliseconds));
        return answer;
      };
    }"""
    reader.page.evaluate(script, [path, milliseconds])


def test_what_comes_late_does_not_replace_a_newer_choice(reader: Reader, images: Path) -> None:
    """The prior image of one patient, and an example, that arrive after the next study was opened."""
    reader.drop(images / "noise.png")
    delayed(reader, "page/readings", milliseconds=300)
    reader.drop(images / "prior.png", on="#prior")
    reader.drop(images / "other.png")
    reader.page.wait_for_timeout(500)
    assert reader.state("app.prior") is None
    delayed(reader, "v1/examples", milliseconds=300)
    reader.page.locator("#examples").select_option("noise.png")
    reader.drop(images / "other.png")
    reader.page.wait_for_timeout(500)
    assert reader.state("app.readings.map((reading) => reading.name)") == ["other.png"]


def test_an_example_is_read(reader: Reader, images: Path) -> None:
    reader.page.locator("#examples").select_option("noise.png")
    reader.marks().first.wait_for()
    assert len(reader.boxes_on_image()) == len(shown(detections(reader.address, images / "noise.png")))


# --- view ---


def test_zoom_keeps_the_point_under_the_pointer_and_fit_comes_back(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    place = reader.page.locator(".tile").bounding_box()
    assert place
    point = "((app) => { const t = app.readings[0].view; return [t.zoom, t.x, t.y]; })(m.app)"
    assert reader.call("main", point) == [1, WIDTH / 2, HEIGHT / 2]
    x, y = place["x"] + place["width"] // 4, place["y"] + place["height"] // 2
    reader.page.mouse.move(x, y)
    reader.page.mouse.wheel(0, -400)
    reader.page.wait_for_timeout(50)
    zoom, view_x, view_y = reader.call("main", point)  # type: ignore[misc]
    assert zoom == pytest.approx(np.exp(0.6))
    scale = min(place["width"] / WIDTH, place["height"] / HEIGHT)
    # the image point under the pointer before, measured from the centre; it is at the same place after
    off_x, off_y = ((x - place["x"] - place["width"] / 2) / scale, (y - place["y"] - place["height"] / 2) / scale)
    assert view_x + off_x / zoom == pytest.approx(WIDTH / 2 + off_x)
    assert view_y + off_y / zoom == pytest.approx(HEIGHT / 2 + off_y)
    reader.page.keyboard.press("0")
    assert reader.call("main", point) == [1, WIDTH / 2, HEIGHT / 2]


def test_the_right_button_changes_the_window_and_reset_comes_back(reader: Reader, images: Path) -> None:
    reader.drop(images / "blocks.png")
    window = "((app) => [app.readings[0].window.centre, app.readings[0].window.width])(m.app)"
    before = reader.pixel("base", 0.5, 0.4)[0]
    reader.page.mouse.move(300, 300)
    reader.page.mouse.down(button="right")
    reader.page.mouse.move(300, 400)
    reader.page.mouse.up(button="right")
    centre, width = reader.call("main", window)  # type: ignore[misc]
    assert (centre < 0.5, width) == (True, 1)
    assert reader.pixel("base", 0.5, 0.4)[0] > before
    reader.page.keyboard.press("c")
    assert reader.call("main", window)[1] < 1  # type: ignore[index]
    reader.page.keyboard.press("r")
    assert reader.call("main", window) == [0.5, 1]
    assert reader.pixel("base", 0.5, 0.4)[0] == before


def test_coordinates_there_and_back(reader: Reader) -> None:
    view, image, tile = {"zoom": 2.5, "x": 90, "y": 41}, {"width": 200, "height": 70}, {"width": 333, "height": 777}
    there = "m.toImage(m.transformOf(...args.slice(0, 3)), ...m.toScreen(m.transformOf(...args.slice(0, 3)), args[3]))"
    assert reader.call("geometry", there, view, image, tile, [12, 34, 0, 0]) == pytest.approx([12, 34])
    assert reader.call("geometry", "m.tidyBox(...args)", [250, 9, -3, 2], image) == [0, 2, 200, 9]
    assert reader.call("geometry", "m.moveBox(...args)", [10, 10, 30, 20], image, 900, -4) == [180, 6, 200, 16]


def test_greys_and_map_values_between_cells(reader: Reader) -> None:
    level = "m.halved({ width: 5, height: 2, coverX: 1, coverY: 1, greys: Uint8Array.from(args[0]) })"
    halved = f"(({{ width, height, greys, coverX }}) => [width, height, [...greys], coverX])({level})"
    assert reader.call("picture", halved, [0, 4, 9, 9, 1, 0, 4, 9, 9, 1]) == [2, 1, [2, 9], 0.8]
    strip = "new m.Picture({ width: 3000, height: 3 }, new Uint8Array(9000)).levelFor(1)"
    assert reader.call("picture", f"(({{ width, height }}) => [width, height])({strip})") == [1500, 1]
    table = "[...m.greyTable(255, { centre: 0.25, width: 0.5 }, false)].map((colour) => colour & 255)"
    greys = reader.call("picture", table)
    assert [greys[value] for value in (0, 1, 64, 127, 128, 255)] == [0, 2, 128, 254, 255, 255]  # type: ignore[index]
    row = "[...m.enlarged(Uint8Array.from([0, 200]), { width: 2, height: 1 }).values]"
    values = reader.call("heat", row)
    assert (values[0], values[79], values[80], values[159]) == (0, 99, 101, 200)  # type: ignore[index]


# --- corrections ---


def drag(reader: Reader, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag between two points of the image."""
    place = reader.page.locator(".tile").bounding_box()
    assert place
    scale = min(place["width"] / WIDTH, place["height"] / HEIGHT)
    left = place["x"] + (place["width"] - WIDTH * scale) / 2
    top = place["y"] + (place["height"] - HEIGHT * scale) / 2
    points = [(left + x * scale, top + y * scale) for x, y in (start, end)]
    reader.page.mouse.move(*points[0])
    reader.page.mouse.down()
    reader.page.mouse.move(*points[1], steps=3)
    reader.page.mouse.up()


def sign(reader: Reader) -> None:
    reader.page.locator("#reader").fill("R1")
    reader.page.locator("#consent").check()


def edits(reader: Reader) -> Any:
    return reader.state("app.readings[0].corrections.records()")


def test_corrections_are_saved_with_exact_coordinates(reader: Reader, images: Path, saved: Path) -> None:
    found = [one for one in detections(reader.address, images / "noise.png") if one["shown"]]
    reader.drop(images / "noise.png")
    page = reader.page
    page.keyboard.press("e")
    assert page.locator("#save").is_disabled()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("l")
    page.keyboard.type("nod" if found[2]["finding"] == EFFUSION else "pleu")
    page.keyboard.press("Enter")
    page.keyboard.press("d")
    drag(reader, (40, 60), (140, 200))
    page.keyboard.type("EFF")
    page.keyboard.press("Enter")
    page.locator(".mark.drawn").wait_for()
    sign(reader)
    page.locator("#save").click()
    page.locator("#correct-state[data-kind=saved]").wait_for()
    (file,) = (path for path in saved.rglob("*.jsonl"))
    record = read_records(file)[-1]
    assert record["id"] in page.locator("#correct-state").inner_text()
    assert (record["reader"], record["consent"], record["complete"]) == ("R1", True, False)
    assert (record["name"], record["width_px"], record["height_px"]) == ("noise.png", WIDTH, HEIGHT)
    assert record["clicks"] == reader.state("app.clicks")
    assert 0 < record["seconds"] < 60
    first, second, third, drawn = record["boxes"]
    assert [first["action"], second["action"], third["action"]] == ["accepted", "rejected", "relabelled"]
    for box, source in zip((first, second, third), found, strict=False):
        assert (tuple(box["box_xyxy"]), box["score"]) == (tuple(source["box_xyxy"]), source["score"])
    assert {third["finding"], third["original_finding"]} == {LESION, EFFUSION}
    assert (drawn["action"], drawn["finding"], drawn["score"]) == ("drawn", EFFUSION, None)
    np.testing.assert_allclose(drawn["box_xyxy"], (40, 60, 140, 200), atol=1e-3)
    np.testing.assert_allclose(drawn["box_xyxy"], edits(reader)[-1]["box_xyxy"], atol=1e-9)


def test_a_box_is_moved_resized_and_all_of_it_undone(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    page = reader.page
    page.keyboard.press("e")
    page.keyboard.press("d")
    drag(reader, (100, 60), (160, 110))
    page.keyboard.press("Enter")
    page.locator(".mark.drawn").wait_for()
    drag(reader, (130, 85), (150, 95))
    np.testing.assert_allclose(edits(reader)[0]["box_xyxy"], (120, 70, 180, 120), atol=0.02)
    drag(reader, (180, 120), (200, 150))
    np.testing.assert_allclose(edits(reader)[0]["box_xyxy"], (120, 70, 200, 150), atol=0.04)
    drag(reader, (120, 110), (-50, 110))
    np.testing.assert_allclose(edits(reader)[0]["box_xyxy"], (0, 70, 200, 150), atol=0.06)
    page.keyboard.press("Shift+A")
    assert len(edits(reader)) == 1 + len(shown(detections(reader.address, images / "noise.png")))
    for expected in (1, 1, 1, 1, 0):
        page.keyboard.press("Control+z")
        assert len(edits(reader)) == expected
    assert reader.state("app.isDirty") is False
    assert page.locator("#correct-undo").is_disabled()


def test_a_moved_box_of_the_model_keeps_its_origin(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    page = reader.page
    page.keyboard.press("e")
    page.keyboard.press("ArrowDown")
    before = tuple(reader.state("app.readings[0].detections[0].box_xyxy"))  # type: ignore[arg-type]
    page.keyboard.press("Alt+Shift+ArrowLeft")
    (record,) = edits(reader)
    assert record["action"] == "moved"
    assert tuple(record["original_box_xyxy"]) == before
    assert record["box_xyxy"][:2] == list(before[:2])
    assert record["box_xyxy"][2] < before[2]
    page.keyboard.press("x")
    (record,) = edits(reader)
    assert (record["action"], tuple(record["box_xyxy"]), record["original_box_xyxy"]) == ("rejected", before, None)


def test_saving_needs_reader_consent_and_decisions(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    save = reader.page.locator("#save")
    reader.page.keyboard.press("e")
    sign(reader)
    assert save.is_disabled()
    reader.page.locator("#correct-acceptAll").click()
    assert save.is_enabled()
    for name in ("no spaces", ""):
        reader.page.locator("#reader").fill(name)
        assert save.is_disabled()
    reader.page.locator("#reader").fill("R-2")
    reader.page.locator("#consent").uncheck()
    assert save.is_disabled()


def test_what_did_not_change_is_not_saved_twice(reader: Reader, images: Path, saved: Path) -> None:
    reader.drop(images / "noise.png")
    reader.page.keyboard.press("e")
    sign(reader)
    reader.page.locator("#correct-acceptAll").click()
    before = len(read_records(saved / "corrections.jsonl"))
    for _ in range(3):
        reader.page.keyboard.press("Control+s")
    reader.page.locator("#correct-state", has_text="Saved as").wait_for()
    reader.page.keyboard.press("Control+s")
    reader.page.wait_for_timeout(100)
    assert len(read_records(saved / "corrections.jsonl")) == before + 1
    reader.page.locator("#reader").fill("R-3")
    reader.page.locator("#save").click()
    reader.page.locator("#correct-state", has_text=f"Saved as {before + 2:06d}").wait_for()


def test_a_new_study_asks_before_corrections_are_lost(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    reader.page.keyboard.press("e")
    reader.page.keyboard.press("Shift+A")
    leaving = []
    reader.page.once("dialog", lambda dialog: (leaving.append(dialog.type), dialog.dismiss()))
    reader.page.evaluate("() => { location.href = '/?again'; }")
    reader.page.wait_for_timeout(200)
    assert leaving == ["beforeunload"]
    reader.drop(images / "other.png")
    reader.page.get_by_role("button", name="Cancel").click()
    assert reader.page.locator("#image-name").inner_text() == "noise.png"
    reader.drop(images / "other.png")
    reader.page.get_by_role("button", name="Open and lose them").click()
    reader.page.locator("#image-name", has_text="other.png").wait_for()
    assert reader.state("app.isDirty") is False


def test_the_edge_wins_and_repeated_clicks_change_the_box(reader: Reader, images: Path) -> None:
    reader.drop(images / "blocks.png")
    place = reader.page.locator(".tile").bounding_box()
    assert place
    scale = min(place["width"] / 300, place["height"] / 200)
    boxes = [[100, 60, 260, 160], [150, 80, 250, 150]]
    add = "app.readings[0].corrections.draw(app.model.findings[0], {})"
    reader.state("app.setCorrecting(true)")
    large, small = (reader.state(add.format(box)) for box in boxes)
    reader.state("app.emit('marks')")

    def click(x: float, y: float) -> object:
        left, top = (place["width"] - 300 * scale) / 2, (place["height"] - 200 * scale) / 2
        reader.page.mouse.click(place["x"] + left + x * scale, place["y"] + top + y * scale)
        return reader.state("app.selectedId")

    assert [click(200, 120) for _ in range(3)] == [small, large, small]
    assert click(120, 159.5) == large
    assert click(151, 110) == small
    assert click(20, 190) is None


def test_percentages_do_not_reach_a_limit_that_hides_the_box(reader: Reader) -> None:
    values = [
        [0.2486, 0.249],
        [0.2486, None],
        [0.252, 0.249],
        [0.3496, 0.35],
        [0.24, 0.249],
        [0.0003, None],
        [0.01, None],
    ]
    texts = reader.call("filter", "args.map((pair) => m.percent(...pair))", *values)
    assert texts == ["24 %", "25 %", "25 %", "34 %", "24 %", "<1 %", "1 %"]


def test_the_whole_image_is_ticked_for_each_image_anew(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png", images / "other.png")
    page = reader.page
    page.keyboard.press("e")
    sign(reader)
    page.locator("#whole").check()
    page.keyboard.press("ArrowRight")
    assert (page.locator("#whole").is_checked(), page.locator("#consent").is_checked()) == (False, True)
    page.keyboard.press("ArrowLeft")
    assert page.locator("#whole").is_checked()
    reader.drop(images / "third.png")
    assert (page.locator("#whole").is_checked(), page.locator("#consent").is_checked()) == (False, True)
    assert page.locator("#reader").input_value() == "R1"


# --- what can go wrong ---


def test_files_that_are_left_out_stay_named(reader: Reader, images: Path, tmp_path: Path) -> None:
    small = noise(5, (60, 80))
    paths = [tmp_path / f"image{number}.png" for number in range(1, 19)]
    for path in paths:
        assert cv2.imwrite(str(path), small)
    paths[1].write_bytes(b"no image")
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    reader.page.evaluate(DROP, ["body", files])
    unreadable = reader.page.locator(".warning[data-key=unreadable]")
    unreadable.wait_for()
    assert "image2.png" in unreadable.inner_text()
    unopened = reader.page.locator(".warning[data-key=unopened]")
    assert all(part in unopened.inner_text() for part in ("16 of 18", "image17.png", "image18.png"))
    unopened.get_by_role("button", name="Close").click()
    assert unopened.count() == 0
    assert unreadable.is_visible()


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_a_prior_image_with_a_long_name_can_be_removed(
    browser: Browser, address: str, images: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    prior = Path(shutil.copy(images / "prior.png", tmp_path / f"{'1.2.840.113619.' * 10}png"))
    with reading(browser, address, size=size) as reader:
        reader.drop(images / "noise.png")
        reader.drop(prior, on="#prior")
        reader.marks("prior").first.wait_for()
        place = reader.page.locator("#prior-clear").bounding_box()
        assert place
        assert place["x"] + place["width"] <= size[0]
        assert place["y"] + place["height"] <= size[1]
        reader.page.locator("#prior-clear").click()
        assert reader.marks("prior").count() == 0


def test_a_file_beyond_the_limit(browser: Browser, address: str, images: Path) -> None:
    assert (images / "heavy.png").stat().st_size > MAX_REQUEST_BYTES
    with reading(browser, address) as reader:
        reader.drop(images / "heavy.png", images / "noise.png")
        tiles = reader.page.locator(".tile")
        assert [tile.get_attribute("data-status") for tile in tiles.all()] == ["error", "ready"]
        assert str(MAX_REQUEST_BYTES) in tiles.first.locator(".message").inner_text()
        assert tiles.first.get_by_role("button").count() == 0
        assert [problem for problem in reader.problems if "413" not in problem] == []
        reader.problems.clear()  # the browser itself reports each refused request


def test_a_busy_service_is_asked_again_and_a_dead_one_on_request(browser: Browser, address: str, images: Path) -> None:
    with reading(browser, address) as reader:
        answers = iter((429, None))

        def busy_once(route: Any) -> None:
            if next(answers) == 429:
                route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "Busy."})
            else:
                route.continue_()

        reader.page.route("**/page/readings", busy_once)
        reader.drop(images / "noise.png")
        assert reader.marks().count() > 0
        reader.page.unroute("**/page/readings")
        reader.page.route("**/page/readings", lambda route: route.abort())
        reader.drop(images / "other.png")
        assert reader.page.locator(".tile").get_attribute("data-status") == "error"
        reader.page.unroute("**/page/readings")
        reader.page.get_by_role("button", name="Try again").click()
        reader.marks().first.wait_for()
        assert len(reader.problems) == 2
        reader.problems.clear()


def test_a_file_that_is_gone_is_not_blamed_on_the_service(reader: Reader, images: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(images / "noise.png", tmp_path))
    reader.page.route("**/page/readings", lambda route: route.abort())
    reader.page.locator("#files").set_input_files(path)
    again = reader.page.get_by_role("button", name="Try again")
    again.wait_for()
    path.unlink()
    reader.page.unroute("**/page/readings")
    again.click()
    reader.page.get_by_text("deleted").first.wait_for()
    assert (reader.page.locator(".tile").get_attribute("data-status"), again.count()) == ("error", 0)
    reader.problems.clear()  # the browser itself reports both failures


def test_a_name_from_right_to_left_does_not_turn_the_size_around(reader: Reader, images: Path, tmp_path: Path) -> None:
    reader.drop(Path(shutil.copy(images / "noise.png", tmp_path / "a\u202eb.png")))
    title = reader.page.locator(".tile .title")
    assert title.text_content() == f"\u2068a\u202eb.png\u2069  {WIDTH} x {HEIGHT}"


def test_a_drop_without_a_file_says_so(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png")
    reader.page.evaluate(DROP, ["body", []])
    reader.page.locator(".warning[data-key=unopened]").wait_for()
    assert reader.page.locator(".tile[data-status=ready]").count() == 1


@pytest.mark.parametrize("content", [b"\x05\0\0\0hello", b"", b"<html>"])
def test_an_answer_of_another_server_is_an_error(reader: Reader, images: Path, content: bytes) -> None:
    for path in ("**/page/readings", "**/v1/maps"):
        reader.page.route(path, lambda route: route.fulfill(status=200, body=content))
        reader.drop(images / "other.png")
        if path.endswith("readings"):
            assert reader.page.locator(".tile").get_attribute("data-status") == "error"
            reader.page.unroute(path)
    assert reader.state("app.readings[0].status") == "ready"
    assert reader.state("app.readings[0].mapsMessage") not in (None, "")


def test_an_api_key_is_asked_for(browser: Browser, model: Path, images: Path, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.txt", "WARD")
    with serving(model, "--api-keys", str(tmp_path / "keys.txt")) as address, reading(browser, address) as reader:
        field = reader.page.locator("#api-key")
        for text in ("wrong", key):
            field.fill(text)
            field.press("Enter")
        reader.page.locator(".finding").first.wait_for()
        reader.drop(images / "noise.png")
        assert reader.marks().count() > 0
        assert reader.page.locator("#correct").is_hidden()
        assert reader.page.locator("#heat").is_hidden()
        assert all("401" in problem for problem in reader.problems)
        reader.problems.clear()


# --- the model's description ---


def refusals(reader: Reader, *kinds: str) -> None:
    """Let the next calls of /v1/model fail."""
    left = iter(kinds)

    def answer(route: Any) -> None:
        kind = next(left, None)
        if kind == "503":
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "Starting."})
        elif kind == "abort":
            route.abort()
        else:
            route.continue_()

    reader.page.route("**/v1/model", answer)
    reader.page.reload()


@pytest.mark.parametrize("kind", ["503", "abort"])
def test_a_description_that_failed_once_is_fetched_before_the_image(
    browser: Browser, address: str, images: Path, kind: str
) -> None:
    expected = shown(detections(address, images / "noise.png"))
    with reading(browser, address) as reader:
        refusals(reader, kind)
        reader.page.locator("#notices .warning").wait_for()
        reader.drop(images / "noise.png")
        np.testing.assert_allclose(reader.boxes_on_image(), expected, atol=0.01)
        assert reader.page.locator("#notices .warning").count() == 0
        assert reader.page.locator("#quality").inner_text().startswith(f"{len(expected)} ")
        reader.problems.clear()


def test_no_result_is_shown_without_the_description(browser: Browser, address: str, images: Path) -> None:
    with reading(browser, address) as reader:
        refusals(reader, "abort", "abort", "abort")
        reader.page.locator("#notices .warning").wait_for()
        reader.drop(images / "noise.png")
        assert reader.page.locator(".tile").get_attribute("data-status") == "error"
        assert "description" in reader.page.locator("#quality").inner_text()
        reader.page.locator("#notices").get_by_role("button", name="Try again").click()
        reader.page.wait_for_timeout(100)
        assert reader.page.locator(".tile").get_attribute("data-status") == "error"
        reader.page.locator(".tile").get_by_role("button", name="Try again").click()
        reader.marks().first.wait_for()
        assert reader.marks().count() == len(shown(detections(address, images / "noise.png")))
        reader.problems.clear()


def test_after_a_closed_key_dialog_the_key_is_asked_for_with_the_image(
    browser: Browser, model: Path, images: Path, tmp_path: Path
) -> None:
    key = add_key(tmp_path / "keys.txt", "WARD")
    with serving(model, "--api-keys", str(tmp_path / "keys.txt")) as address, reading(browser, address) as reader:
        field = reader.page.locator("#api-key")
        field.wait_for()
        assert field.evaluate("(element) => element === document.activeElement")
        reader.page.keyboard.press("Escape")
        reader.page.locator("#notices .warning").wait_for()
        data = base64.b64encode((images / "noise.png").read_bytes()).decode()
        reader.page.evaluate(DROP, ["body", [["noise.png", data]]])
        field.fill(key)
        field.press("Enter")
        reader.marks().first.wait_for()
        files = {"files": ("noise.png", (images / "noise.png").read_bytes())}
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{address}/v1/detections", files=files, headers=headers).raise_for_status().json()
        np.testing.assert_allclose(reader.boxes_on_image(), shown(answer["images"][0]["detections"]), atol=0.01)
        assert reader.page.locator("#notices .warning").count() == 0
        reader.problems.clear()


def test_another_model_after_a_restart_reads_the_open_image_again(reader: Reader, images: Path) -> None:
    """Answers that name a former model come first; then those of the service itself."""
    own = str(httpx.get(f"{reader.address}/v1/model").raise_for_status().json()["manifest_sha256"])
    former = "0" * 64

    def renamed(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.body().replace(own.encode(), former.encode()))

    for path in ("**/v1/model", "**/page/readings", "**/v1/maps"):
        reader.page.route(path, renamed)
    reader.page.reload()
    reader.drop(images / "noise.png")
    reader.page.keyboard.press("e")
    reader.page.keyboard.press("Shift+A")
    assert reader.state("[app.readings[0].modelSha256, app.isDirty]") == [former, True]
    assert reader.page.locator(".warning").count() == 0
    reader.page.unroute_all()
    reader.drop(images / "prior.png", on="#prior")
    notice = reader.page.locator(".warning[data-key=model-changed]")
    notice.wait_for()
    assert "not saved" in notice.inner_text()
    reader.page.locator(".tile[data-status=ready]").wait_for()
    assert reader.state("[app.model.manifest_sha256, app.readings[0].modelSha256]") == [own, own]
    assert reader.state("app.isDirty") is False
    assert reader.marks("edit").count() == len(shown(detections(reader.address, images / "noise.png")))
    reader.marks("prior").first.wait_for()
    assert reader.page.locator("#examples option").count() == 1 + len(list(images.iterdir()))


# --- for everyone ---


def test_everything_that_can_be_used_has_a_name(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png", images / "other.png")
    reader.page.keyboard.press("e")
    nameless = reader.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [tabindex], [role]")]
        .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.getAttribute("aria-labelledby") || e.labels?.length
          || e.textContent.trim() || e.role === "status"))
        .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


OVERFLOWING = """() => [document.documentElement,
    ...document.querySelectorAll(".bar, .workspace, .stage, .panel, .foot")]
    .filter((e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight).map((e) => e.className)"""


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_nothing_needs_scroll_bars(browser: Browser, address: str, images: Path, size: tuple[int, int]) -> None:
    with reading(browser, address, size=size) as reader:
        reader.drop(images / "noise.png", images / "other.png")
        assert reader.page.evaluate(OVERFLOWING) == []
        reader.page.keyboard.press("e")
        assert reader.page.evaluate(OVERFLOWING) == []


def test_in_a_small_window_only_the_panel_scrolls(reader: Reader, images: Path) -> None:
    reader.drop(images / "noise.png", images / "other.png")
    reader.page.keyboard.press("e")
    for width, height in ((800, 600), (600, 800)):
        reader.page.set_viewport_size({"width": width, "height": height})
        assert reader.page.evaluate(OVERFLOWING) == ["panel"]
        save = reader.page.locator("#save")
        save.scroll_into_view_if_needed()
        for button in (save, *reader.page.locator(".bar button:visible").all()):
            place = button.bounding_box()
            assert place
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= width
            assert place["y"] + place["height"] <= height


def test_the_model_card_and_the_keys_are_shown(reader: Reader) -> None:
    reader.page.locator(".finding").first.wait_for()
    reader.page.locator("#card").click()
    text = reader.page.locator("#dialog").inner_text()
    assert all(part in text for part in (LESION, "0.300", "AGPL-3.0-or-later", "Untrained."))
    reader.page.keyboard.press("Escape")
    reader.page.keyboard.press("?")
    assert "Invert" in reader.page.locator("#dialog").inner_text()
