"""A finished classifier on images without labels: one row a readable image, every problem named, nothing done twice."""

import shutil
import signal
import struct
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.config import UserError
from cxr.datasets import Tbx11kData
from cxr.imaging.listing import ImageFile, find_images
from cxr.imaging.shards import Shard
from cxr.runs.run_folder import FinishedRun, open_run
from stage1_classify.evaluation import new_images
from stage1_classify.evaluation.new_images import Call, predict_images, predict_in_shards, prediction_table
from stage1_classify.evaluation.predictions import thresholds_of
from stage1_classify.model.loading import Trained, load_trained
from tests.builders import write_picture
from tests.crashing import DEADLY, crash_decoder, exit_code_of
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings, untrained_run

NAN = float("nan")
NUM_IMAGES = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patch_folder(tmp_path_factory.mktemp("data"), num_images=NUM_IMAGES)


@pytest.fixture(scope="module")
def run(root: Path) -> FinishedRun:
    return open_run(untrained_run(stage1_settings(root), root / "run", weights_seed=1))


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", dtype={"image_id": str})


def test_no_image_gives_an_empty_table() -> None:
    table = prediction_table([], np.zeros((0, 2)), FINDINGS, np.array([0.5, NAN]))
    assert list(table.columns)[:4] == ["image_id", "file", FINDINGS[0], f"{FINDINGS[0]} call"]
    assert table.empty


def test_calls_begin_at_the_operating_point_and_are_blank_without_one() -> None:
    probabilities = np.array([[0.5, 0.9], [0.49, 0.1]])
    table = prediction_table([("a", "a.png"), ("\udcff", "\udcff.png")], probabilities, FINDINGS, np.array([0.5, NAN]))
    assert table[f"{FINDINGS[0]} call"].tolist() == [1, 0]
    assert table[f"{FINDINGS[1]} call"].isna().all()
    assert table["file"].tolist() == ["a.png", "\\udcff.png"]  # a byte that is not UTF-8


def test_every_image_has_its_probabilities_and_calls(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    line = predict_images(Call(run.dir, (root / "images",), tmp_path / "out"))
    assert line.startswith(f"{NUM_IMAGES} images predicted -> ")
    table = read(tmp_path / "out")
    assert table["file"].tolist() == [f"p{row:03d}.png" for row in range(NUM_IMAGES)]
    expected = load_trained(run.dir).predict(stage1_settings(root).data.read())
    np.testing.assert_allclose(table[FINDINGS].to_numpy(), expected, rtol=1e-5)
    called = expected >= thresholds_of(run, FINDINGS)
    done = open_run(tmp_path / "out", stage=new_images.STAGE)
    for k, finding in enumerate(FINDINGS):
        if run.manifest["thresholds"][finding] is not None:
            assert table[f"{finding} call"].tolist() == called[:, k].astype(int).tolist()
    assert done.metrics["called/lung_lesion"] == called[:, 0].sum()
    assert "submission" not in done.manifest["outputs"]


def test_a_broken_image_is_named_and_the_others_are_predicted(tmp_path: Path, run: FinishedRun) -> None:
    write_picture(tmp_path / "scans" / "good.png", (50, 70), bright_xyxy=(5, 5, 20, 18))
    (tmp_path / "scans" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "scans" / "notes.txt").write_text("")
    call = Call(run.dir, (tmp_path / "scans",), tmp_path / "out")
    with pytest.raises(UserError) as caught:
        predict_images(call)
    first, last = caught.value.problems
    assert str(tmp_path / "scans" / "broken.png") in first
    assert "1 image predicted; 1 unreadable file excluded; 1 other file (notes.txt) -> " in last
    assert read(tmp_path / "out")["image_id"].tolist() == ["good"]
    assert "1 unreadable file excluded" in predict_images(replace(call, on_problem="exclude"))


def test_an_image_that_crashes_its_decoder_is_unreadable_in_the_next_call(
    tmp_path: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_picture(tmp_path / "scans" / f"{name}.png", (50, 70), bright_xyxy=(5, 5, 20, 18))
    with (tmp_path / "scans" / "b.png").open("ab") as file:
        file.write(DEADLY)
    crash_decoder(monkeypatch)
    call = Call(run.dir, (tmp_path / "scans",), tmp_path / "out")
    assert exit_code_of(lambda: predict_images(call)) == -signal.SIGSEGV
    with pytest.raises(UserError) as caught:
        predict_images(call)
    assert str(tmp_path / "scans" / "b.png") in caught.value.problems[0]
    assert read(tmp_path / "out")["image_id"].tolist() == ["a", "c"]


def test_colours_and_bits_count_as_their_grey_and_what_is_no_image_is_named(tmp_path: Path, run: FinishedRun) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    plain, scans = Image.fromarray(grey), tmp_path / "scans"
    scans.mkdir()
    ink = Image.merge("CMYK", [Image.new("L", plain.size)] * 3 + [Image.fromarray(255 - grey)])
    kinds = {"grey": plain, "rgb": plain.convert("RGB"), "rgba": plain.convert("RGBA"), "palette": plain.convert("P")}
    for name, picture in kinds.items():
        picture.save(scans / f"{name}.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(scans / "sixteen.png")
    ink.save(scans / "ink.jpg", quality=100)
    bad = {
        "one_pixel.png": png(grey[:1, :1]),
        "blank.png": png(np.full((40, 60), 7, dtype=np.uint8)),
        "empty.jpg": b"",
        "cut.png": png(grey)[:500],
        "huge.png": png(grey[:1]).replace(struct.pack(">II", 60, 1), struct.pack(">II", 2**30, 2**30)),
        "page.dcm": b"<html>",
    }
    for name, data in bad.items():
        (scans / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        predict_images(Call(run.dir, (scans,), tmp_path / "out"))
    *problems, summary = caught.value.problems
    assert "6 images predicted; 6 unreadable files excluded" in summary
    assert sorted(name for name in bad for problem in problems if f"/{name}" in problem) == sorted(bad)
    table = read(tmp_path / "out").set_index("image_id")
    assert set(table.index) == {*kinds, "sixteen", "ink"}
    np.testing.assert_allclose(table[FINDINGS], table.loc[["grey"] * 6, FINDINGS].to_numpy(), atol=0.01)


def test_without_a_readable_image_the_command_fails(tmp_path: Path, run: FinishedRun) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        predict_images(Call(run.dir, (tmp_path / "scans",), tmp_path / "out", "exclude"))


def test_an_interrupted_call_goes_on(
    tmp_path: Path, root: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    call = Call(run.dir, (root / "images",), tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(new_images, "_finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict_images(call)
    lines = tmp_path / "out" / "predictions.partial.jsonl"
    text = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(text[:5]) + text[5][:20])  # the sixth line was not written whole
    decode, given = new_images._decode, list[str]()

    def noted(files: Sequence[ImageFile], trained: Trained) -> new_images._Decoded:
        given.extend(file.file_name for file in files)
        return decode(files, trained)

    monkeypatch.setattr(new_images, "_decode", noted)
    predict_images(call)
    assert given == [f"p{row:03d}.png" for row in range(5, NUM_IMAGES)]
    assert len(read(tmp_path / "out")) == NUM_IMAGES
    assert not lines.exists()


def test_a_classifier_of_one_finding_writes_a_table_of_two_columns(tmp_path: Path, root: Path) -> None:
    settings = stage1_settings(root).model_copy(update={"findings": FINDINGS[:1]})
    run = open_run(untrained_run(settings, tmp_path / "run", weights_seed=2))
    predict_images(Call(run.dir, (root / "images" / "p003.png",), tmp_path / "out"))
    (header, row) = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert header == "image_id,prediction"
    assert row in ("p003,0", "p003,1")


def test_a_classifier_of_halves_takes_the_higher_probability(tmp_path: Path, run: FinishedRun) -> None:
    write_picture(tmp_path / "one.png", (40, 60), bright_xyxy=(5, 5, 20, 18))
    trained = load_trained(run.dir)
    data = Tbx11kData(root=tmp_path, layout="hemithorax")
    halves = replace(trained, settings=trained.settings.model_copy(update={"data": data}))
    assert (trained.regions, halves.regions) == (("full",), ("left", "right_mirrored"))
    decoded = new_images._decode(find_images([tmp_path / "one.png"]).files, halves)
    assert len(decoded.pictures) == 2
    each = [new_images._probabilities(decoded._replace(pictures=[one]), trained)[0] for one in decoded.pictures]
    np.testing.assert_allclose(new_images._probabilities(decoded, halves), [np.maximum(*each)], rtol=1e-6)
    assert not np.allclose(*each)
    (tmp_path / "thin.png").write_bytes(png(np.arange(40, dtype=np.uint8)[:, None]))
    thin = new_images._decode(find_images([tmp_path / "thin.png"]).files, halves)
    assert (len(thin.pictures), thin.problems) == (2, [])


def test_three_parts_give_the_bytes_of_one_call(
    tmp_path: Path, root: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_images, "_BATCH", 5)  # 24 images are 5 batches
    images = tmp_path / "images"
    shutil.copytree(root / "images", images)
    (images / "p007.png").write_bytes(b"no picture")
    one, three = (Call(run.dir, (images,), tmp_path / name, "exclude") for name in ("one", "three"))
    summary = predict_images(one)
    for number, count in ((3, 9), (1, 5), (2, 9)):
        assert f": {count} images predicted" in predict_images(replace(three, shard=Shard(number, 3)))
    together = predict_in_shards(three, 3)
    assert together == summary.replace(str(tmp_path / "one"), str(tmp_path / "three"))
    table = (tmp_path / "one" / "predictions.csv").read_bytes()
    assert table.count(b"\n") == NUM_IMAGES
    assert (tmp_path / "three" / "predictions.csv").read_bytes() == table
    assert open_run(tmp_path / "three").metrics == open_run(tmp_path / "one").metrics
    assert not (tmp_path / "three.shards").exists()
