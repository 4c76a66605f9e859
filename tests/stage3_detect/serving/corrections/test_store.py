"""The folder of corrections: its files are exact, complete after `close`, and remade at each start."""

import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.serving.corrections.log import DiskFullError, RecordLog
from stage3_detect.serving.corrections.store import CorrectionStore, Saved, open_readings
from stage3_detect.serving.interface import DecodedImage
from tests.disks import files_of_at_most
from tests.stage3_detect.serving.corrections.correction_builders import FINDINGS, IMAGE, NOON, PARENTS, box, reading

PNG = DecodedImage("chest.png", b"\x89PNG\r\n\x1a\n" + b"p" * 20, np.zeros((90, 130), np.uint8))
SHOWN = {"findings": FINDINGS, "parents": PARENTS}


def open_store(folder: Path, **options: Any) -> CorrectionStore:
    return CorrectionStore(folder, **{"findings": FINDINGS, "parents": PARENTS, "now": lambda: NOON, **options})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CorrectionStore]:
    opened = open_store(tmp_path / "corrections")
    yield opened
    opened.close()


def document(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "corrections.json").read_text(encoding="utf-8"))
    return content


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_folder_has_its_files_and_no_reading(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.num_readings == 0 and store.accepted_shares() == dict.fromkeys(FINDINGS)
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        ".lock",
        "corrections.jsonl",
        "corrections.json",
        "labels.csv",
    }
    assert document(tmp_path)["images"] == [] and rows(tmp_path) == [] and open_readings(tmp_path) == []


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_store(tmp_path).close()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_reading_is_saved_with_id_time_and_findings(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    given = reading([box(), box("rejected", "Lung Opacity")])
    assert [store.save(given), store.save(given)] == [Saved("000001", None), Saved("000002", None)]
    first, second = open_readings(tmp_path)  # while the store is open
    assert dict(first) == {**dict(given), "id": "000001", "time": "2026-05-04T12:00:00+00:00", **SHOWN}
    assert (second.id, second.boxes) == ("000002", given.boxes)
    assert store.num_readings == 2 and store.accepted_shares()["Pleural Effusion"] == 1
    store.close()
    assert [entry["reader"] for entry in document(tmp_path)["annotations"]] == ["r1"]
    assert [row["Lung Opacity"] for row in rows(tmp_path)] == ["0"]


def test_a_restart_goes_on_and_remakes_the_files(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.save(reading([box()]))
    first.close()
    for name in ("corrections.json", "labels.csv"):
        (tmp_path / name).unlink()
    again = open_store(tmp_path, findings=("Edema", "Pleural Effusion"))
    assert again.save(reading(reader="r2", complete=True)).id == "000002"
    again.close()
    assert [entry["name"] for entry in document(tmp_path)["categories"]][:2] == ["Edema", "Pleural Effusion"]
    (row,) = rows(tmp_path)
    assert (row["readers"], row["Edema"], row["Pleural Effusion"], row["Lung Opacity"]) == ("r1 r2", "0", "-1", "")


def test_an_unknown_finding_is_refused_and_not_saved(store: CorrectionStore) -> None:
    with pytest.raises(UserError, match="'Edema'"):
        store.save(reading([box(finding="Edema")]))
    assert store.num_readings == 0 and open_readings(store.folder) == []


def test_a_second_service_gets_one_clear_error(store: CorrectionStore) -> None:
    with pytest.raises(UserError, match="another service"):
        open_store(store.folder)
    assert store.save(reading()).id == "000001"


def test_images_are_kept_with_their_correction_only(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_images=True)
    store.keep(PNG)
    store.keep(DecodedImage("other.png", b"never corrected", PNG.pixels))
    assert not (tmp_path / "images").exists()
    assert store.save(reading(image_sha256=PNG.sha256)) == Saved("000001", True)
    assert store.save(reading()) == Saved("000002", False)  # an image that the service has not seen
    store.close()
    assert [path.name for path in (tmp_path / "images").iterdir()] == [f"{PNG.sha256}.png"]
    assert [row["path"] for row in rows(tmp_path)] == [f"images/{PNG.sha256}.png", "chest.png"]
    assert document(tmp_path)["info"]["data_root"] == str(tmp_path.resolve())


def test_without_keeping_no_image_is_stored(store: CorrectionStore) -> None:
    store.keep(PNG)
    assert store.save(reading(image_sha256=PNG.sha256)) == Saved("000001", None)
    assert not (store.folder / "images").exists()


def test_another_size_than_that_of_the_image_is_refused(store: CorrectionStore) -> None:
    store.keep(PNG)
    with pytest.raises(UserError, match=r"got 90 x 130, but the image has 130 x 90"):
        store.save(reading(image_sha256=PNG.sha256, width_px=90, height_px=130))
    assert store.num_readings == 0
    assert store.save(reading(image_sha256=PNG.sha256)).id == "000001"
    assert store.save(reading(width_px=90, height_px=130)).id == "000002"  # an image that the service has not seen


def test_an_image_has_one_size_also_where_the_service_has_not_seen_it(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.save(reading([box()]))
    with pytest.raises(UserError, match=r"got 30 x 40, but the image has 130 x 90"):
        first.save(reading(reader="r2", width_px=30, height_px=40))
    first.close()
    again = open_store(tmp_path)
    with pytest.raises(UserError, match=r"got 90 x 130, but the image has 130 x 90"):
        again.save(reading(reader="r2", width_px=90, height_px=130))
    assert again.save(reading(reader="r2")).id == "000002"
    again.close()


def test_the_size_that_was_shown_replaces_that_of_earlier_readings(store: CorrectionStore) -> None:
    store.save(reading([box()], image_sha256=PNG.sha256, width_px=1300, height_px=900))
    store.keep(PNG)
    assert store.save(reading(image_sha256=PNG.sha256, reader="r2", complete=True)).id == "000002"
    store.write_files()
    (entry,) = document(store.folder)["images"]
    assert (entry["width"], entry["height"], entry["num_readers"]) == (130, 90, 1)
    assert document(store.folder)["annotations"] == []


def test_a_box_of_less_than_a_hundredth_of_a_pixel_is_refused(store: CorrectionStore) -> None:
    for x2, y2 in ((10.0000001, 50.0), (40.0, 20.004)):
        with pytest.raises(UserError, match=r"boxes\.1"):
            store.save(reading([box(), box("drawn", box_xyxy=[10.0, 20.0, x2, y2])]))
    assert store.num_readings == 0
    store.save(reading([box(box_xyxy=[10.0, 20.0, 10.01, 20.01])]))
    store.write_files()
    assert [entry["bbox"] for entry in document(store.folder)["annotations"]] == [[10.0, 20.0, 0.01, 0.01]]


def test_an_image_is_not_kept_without_its_reading(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_images=True)
    store.keep(PNG)
    size = (tmp_path / "corrections.jsonl").stat().st_size
    with files_of_at_most(max(size, len(PNG.data))), pytest.raises(DiskFullError):
        store.save(reading([box()], image_sha256=PNG.sha256))
    assert list((tmp_path / "images").iterdir()) == []
    assert store.save(reading([box()], image_sha256=PNG.sha256)) == Saved("000001", True)
    with files_of_at_most(len(PNG.data)), pytest.raises(DiskFullError):
        store.save(reading([box()], image_sha256=PNG.sha256))
    assert [path.name for path in (tmp_path / "images").iterdir()] == [f"{PNG.sha256}.png"]  # of the first reading
    store.close()


def test_a_full_disk_refuses_the_reading_and_the_next_one_is_saved(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.save(reading([box()]))
    store.write_files()
    files = [tmp_path / name for name in ("corrections.jsonl", "corrections.json", "labels.csv")]
    before = [path.read_bytes() for path in files]
    with files_of_at_most(len(before[0]) + 30):
        with pytest.raises(DiskFullError):
            store.save(reading([box("drawn")]))
        with pytest.raises(OSError):
            store.write_files()
        assert [path.read_bytes() for path in files] == before
    assert store.save(reading([box("moved")])).id == "000002"
    store.close()
    assert [one.boxes[0].action for one in open_readings(tmp_path)] == ["accepted", "moved"]
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / ".lock", *files])  # nothing half written is left


def test_many_readers_at_once_lose_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    given = [reading([box()], reader=f"r{number}", image_sha256=f"{number % 7:064d}") for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        ids = [one.id for one in pool.map(store.save, given)]
    store.close()
    assert sorted(ids) == [f"{number:06d}" for number in range(1, 61)]
    assert sorted(one.reader for one in open_readings(tmp_path)) == sorted(one.reader for one in given)
    assert len(document(tmp_path)["images"]) == 7 and len(document(tmp_path)["annotations"]) == 60


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "corrections.jsonl")
    log.append({"image_sha256": IMAGE})
    log.close()
    with pytest.raises(UserError, match="line 1"):
        open_readings(tmp_path)
    with pytest.raises(UserError, match="line 1"):
        open_store(tmp_path)
    RecordLog(tmp_path / "corrections.jsonl").close()  # the folder is not left locked


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".labels.csv.17.partial").write_text("path,", encoding="utf-8")
    open_store(tmp_path).close()
    assert not list(tmp_path.glob(".*.partial"))
