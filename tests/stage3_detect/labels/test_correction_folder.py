"""From the service's folder to training data: the whole command on a tiny chain."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.coco import read_coco
from cxr.config import UserError, load_config
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import open_run
from stage1_classify.settings.classifier import Stage1Settings
from stage3_detect.corrections import parse
from stage3_detect.labels.correction_folder import Call, make_training_folder
from stage3_detect.labels.corrections import files_of, read_corrections
from stage3_detect.labels.sources import open_sources
from stage3_detect.serving.corrections.store import CorrectionStore
from stage3_detect.settings.detector import Stage3Settings
from tests.builders import write_picture
from tests.paths import ROOT
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.serving.chain_builders import make_classifier_run
from tests.stage3_detect.serving.corrections.correction_builders import box, reading
from tests.stage3_detect.stage3_builders import FINDINGS, IMAGE_HW, make_stage2_run

NODULE, EFFUSION = FINDINGS


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs stage1, stage2 and stage3, the pictures in data/train, data/tune and data/test."""
    root = tmp_path_factory.mktemp("chain")
    stage1 = make_classifier_run(root / "stage1")
    stage2 = make_stage2_run(root, inputs={"stage1": stage1})
    make_stage3_run(root / "stage3", inputs={"stage2": stage2})
    return root


def correct(folder: Path, *pictures: Path, name: str | None = None, **changes: object) -> None:
    """A reading of each picture, with one drawn box."""
    store = CorrectionStore(folder, findings=FINDINGS, parents={})
    for picture in pictures:
        facts = {"width_px": IMAGE_HW[1], "height_px": IMAGE_HW[0], "name": name or picture.name, **changes}
        store.save(reading([box("drawn", EFFUSION)], image_sha256=sha256_of(picture), **facts))
    store.close()


def call(tmp_path: Path, chain: Path, **changes: object) -> Call:
    given = {
        "folder": tmp_path / "corrections",
        "run": chain / "stage3",
        "images": chain / "data",
        "out": tmp_path / "out",
        "on_problem": "error",
    }
    return Call(**(given | changes))  # type: ignore[arg-type]


def test_no_reading_is_an_error(tmp_path: Path, chain: Path) -> None:
    with pytest.raises(UserError, match=r"corrections\.jsonl"):
        make_training_folder(call(tmp_path, chain))
    correct(tmp_path / "corrections")
    with pytest.raises(UserError, match="no reading yet"):
        make_training_folder(call(tmp_path, chain))


def test_images_are_found_and_those_of_tune_and_test_left_out(tmp_path: Path, chain: Path) -> None:
    data = chain / "data"
    pictures = [
        data / f"{name}.png" for name in ("train/train_000", "tune/tune_001", "train/train_004", "test/test_002")
    ]
    correct(tmp_path / "corrections", *pictures, complete=True)
    text = make_training_folder(call(tmp_path, chain))
    assert "2 of 4 corrected images, 2 of the tune or test split left out" in text.splitlines()[0]
    coco = read_coco(tmp_path / "out" / "corrections.json")
    assert coco.images["path"].tolist() == ["train/train_000.png", "train/train_004.png"]
    assert coco.info["data_root"] == str(data)
    assert (tmp_path / "out" / "labels.csv").read_text(encoding="utf-8").splitlines() == [
        "path,patient,study,Nodule/Mass,Pleural Effusion,image_sha256,readers,complete",
        f"train/train_000.png,,,0,1,{sha256_of(pictures[0])},r1,1",
        f"train/train_004.png,,,0,1,{sha256_of(pictures[2])},r1,1",
    ]


def test_the_settings_train_with_the_printed_commands(tmp_path: Path, chain: Path) -> None:
    correct(tmp_path / "corrections", chain / "data/train/train_000.png")
    text = make_training_folder(call(tmp_path, chain))
    out, lines = tmp_path / "out", [line.strip() for line in text.splitlines()]
    for name in ("stage1", "stage3"):
        second = (out / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1]
        assert second.startswith("# Command: ") and second.removeprefix("# Command: ") in lines
    settings = load_config(Stage3Settings, out / "stage3.yaml")
    assert settings.labels.corrections.path == out / "corrections.json"
    assert settings.data.image_px == 96 and list(settings.compare_with) == ["before"]
    stage2 = open_run(chain / "stage2")
    sources = open_sources(stage2, settings.labels, seed=0)
    assert sources.corrections is not None and len(sources.corrections.images) == 1
    assert "train_000" not in set(sources.labels.images["image_id"])
    classifier = load_config(Stage1Settings, out / "stage1.yaml")
    assert classifier.findings == [EFFUSION] and classifier.labels.not_mentioned == "ignore"
    assert classifier.init_from is not None and classifier.init_from.resolve() == (chain / "stage1").resolve()
    dataset = classifier.data.read()
    assert dataset.images["path"].tolist() == ["train/train_000.png"] and dataset.labels[EFFUSION].tolist() == [1]


def test_without_the_classifiers_run_there_are_settings_for_the_detector_only(tmp_path: Path) -> None:
    stage2 = make_stage2_run(tmp_path)
    make_stage3_run(tmp_path / "stage3", inputs={"stage2": stage2})
    correct(tmp_path / "corrections", tmp_path / "data/train/train_000.png")
    text = make_training_folder(call(tmp_path, tmp_path))
    assert "stage1.yaml" not in text and not (tmp_path / "out" / "stage1.yaml").exists()


def test_kept_images_and_those_of_the_hospital_have_a_common_root(tmp_path: Path, chain: Path) -> None:
    kept, known = chain / "data/train/train_000.png", chain / "data/train/train_001.png"
    correct(tmp_path / "corrections", kept, known)
    stored = tmp_path / "corrections" / "images" / f"{sha256_of(kept)}.png"
    stored.parent.mkdir()
    stored.write_bytes(kept.read_bytes())
    make_training_folder(call(tmp_path, chain))
    coco = read_corrections(tmp_path / "out" / "corrections.json", FINDINGS)
    assert list(files_of(coco).values()) == [stored, known]
    correct(tmp_path / "kept", kept)
    (tmp_path / "kept" / "images").mkdir()
    stored.rename(tmp_path / "kept" / "images" / stored.name)
    make_training_folder(call(tmp_path, chain, folder=tmp_path / "kept", images=None))
    assert list(files_of(read_corrections(tmp_path / "out" / "corrections.json", FINDINGS)).values()) == [
        tmp_path / "kept" / "images" / stored.name
    ]


def test_images_without_a_file_are_named_or_left_out(tmp_path: Path, chain: Path) -> None:
    correct(tmp_path / "corrections", chain / "data/train/train_000.png")
    write_picture(tmp_path / "gone.png", IMAGE_HW)
    correct(tmp_path / "corrections", tmp_path / "gone.png")
    with pytest.raises(UserError) as caught:
        make_training_folder(call(tmp_path, chain))
    assert caught.value.problems[0].startswith("corrections: gone.png") and "1 of 2 images" in caught.value.problems[1]
    assert not (tmp_path / "out").exists()
    text = make_training_folder(call(tmp_path, chain, on_problem="exclude"))
    assert text.splitlines()[0].endswith("1 of 2 corrected images, 1 without a file")


def test_a_corrected_test_image_alone_leaves_nothing(tmp_path: Path, chain: Path) -> None:
    correct(tmp_path / "corrections", chain / "data/test/test_002.png")
    with pytest.raises(UserError, match="no image is left"):
        make_training_folder(call(tmp_path, chain))


def test_a_run_folder_is_not_written_into(tmp_path: Path, chain: Path) -> None:
    correct(tmp_path / "corrections", chain / "data/train/train_000.png")
    with pytest.raises(UserError, match="folder of a run"):
        make_training_folder(call(tmp_path, chain, out=chain / "stage3"))


def test_patients_and_studies_come_from_dicom(tmp_path: Path, chain: Path) -> None:
    write_picture(tmp_path / "xrays/chest.dicom", IMAGE_HW)
    import pydicom

    header = pydicom.dcmread(tmp_path / "xrays/chest.dicom")
    header.PatientID, header.StudyInstanceUID = " 4711 ", "1.2.3"
    header.save_as(tmp_path / "xrays/chest.dicom")
    correct(tmp_path / "corrections", tmp_path / "xrays/chest.dicom")
    make_training_folder(call(tmp_path, chain, images=tmp_path / "xrays"))
    assert read_corrections(tmp_path / "out" / "corrections.json", FINDINGS).images["patient_id"].tolist() == ["4711"]
    assert "chest.dicom,4711,1.2.3," in (tmp_path / "out" / "labels.csv").read_text(encoding="utf-8")


def test_the_command_line(tmp_path: Path, chain: Path) -> None:
    correct(tmp_path / "corrections", chain / "data/train/train_000.png")
    arguments = [
        tmp_path / "corrections",
        "--run",
        chain / "stage3",
        "--images",
        chain / "data",
        "--out",
        tmp_path / "o",
    ]
    script = [sys.executable, str(ROOT / "stage3_detect" / "corrections.py"), *map(str, arguments)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "o" / "corrections.json").read_text(encoding="utf-8"))["images"]
    with pytest.raises(SystemExit):
        parse([str(tmp_path)])
    script[2] = str(tmp_path / "nowhere")
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: corrections: no file")
