"""Time and memory of the CAM methods, on tiny networks."""

from pathlib import Path

import pytest

from stage2_pseudolabel.cam.agreement import rank_correlation
from stage2_pseudolabel.evaluation.timing import MAX_EXACT_IMAGES, measure_methods
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, pictures_of, teacher


def test_no_images_have_no_figures(tmp_path: Path) -> None:
    data, pictures = pictures_of(tmp_path, num_images=4)
    assert len(data.images) == 4
    assert measure_methods(teacher(tmp_path, member(tmp_path, seed=0)), pictures, ["pcam"], num_images=0) == {}


def test_each_method_has_its_time_and_memory(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=4)
    methods = ["gradcam", "pcam"]
    figures = measure_methods(teacher(tmp_path, member(tmp_path, seed=0)), pictures, methods, num_images=3)
    assert list(figures) == [f"{what}/{m}" for m in methods for what in ("ms_per_image", "peak_mib")]
    assert all(figures[f"ms_per_image/{m}"] > 0 for m in methods)
    assert all(figures[f"peak_mib/{m}"] >= 0 for m in methods)


def test_budgeted_scorecam_is_compared_with_the_exact_one_on_few_images(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=6)
    own = teacher(tmp_path, member(tmp_path, seed=0))
    figures = measure_methods(own, pictures, ["scorecambudget"], num_images=6)
    maps = own.maps(own.inputs(pictures, range(MAX_EXACT_IMAGES)), ["scorecam", "scorecambudget"]).maps
    expected = rank_correlation(maps["scorecam"], maps["scorecambudget"])
    assert figures["rank_correlation/scorecambudget"] == pytest.approx(expected, abs=1e-6)
    assert "ms_per_image/scorecam" not in figures
