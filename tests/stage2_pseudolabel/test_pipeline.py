"""Mistakes in stage 2's settings that are reported before any image is read."""

from pathlib import Path

import pytest

from cxr.config import UserError, parse_settings
from stage2_pseudolabel.cam.methods import choose_methods
from stage2_pseudolabel.pipeline import check_stages
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, teacher


def settings(methods: list[str], **more: object) -> Stage2Settings:
    values = {"data": {"dataset": "phantom", "root": "x", "part": "vindr"}, "methods": methods, **more}
    values["split"] = {"kind": "official", "names": {"tune": "train", "test": "test"}}
    return parse_settings(Stage2Settings, values, source="stage2.yaml")


def test_a_method_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"methods: .*gradcam listed more than once; list each method once"):
        settings(["gradcam", "pcam", "gradcam"])


def test_unknown_methods_are_refused() -> None:
    choose_methods(settings(["gradcam", "pcam"]).methods)
    with pytest.raises(UserError, match="no method 'gradkam'"):
        choose_methods(settings(["gradkam"]).methods)


def test_methods_that_are_fused_must_be_listed() -> None:
    assert settings(["gradcam", "pcam"]).fusions == []
    fused = settings(["gradcam", "dff", "pcam"], fuse_boxes=[["dff", "pcam"]], fuse_maps=[["pcam", "dff", "gradcam"]])
    assert fused.fusions == ["maps_pcam+dff+gradcam", "boxes_dff+pcam"]
    with pytest.raises(UserError, match=r"fuse_maps: \[gradcam, pcan\] has 'pcan', .*pcam"):
        settings(["gradcam", "pcam"], fuse_maps=[["gradcam", "pcan"]])


@pytest.mark.parametrize(
    ("fused", "problem"),
    [
        ([["pcam", "dff", "pcam"]], "more than once"),
        ([["pcam"]], "at least two"),
        ([[]], "at least two"),
        ([["pcam", "dff"], ["dff", "pcam"]], "listed twice"),
    ],
)
def test_what_is_no_fusion_is_refused(fused: list[list[str]], problem: str) -> None:
    with pytest.raises(UserError, match=rf"fuse_boxes: .*{problem}") as error:
        settings(["pcam", "dff"], fuse_boxes=fused)
    assert len(error.value.problems) == 1


def test_stages_that_the_network_lacks_are_refused_where_they_are_fused(tmp_path: Path) -> None:
    taught, beyond = teacher(tmp_path, member(tmp_path, seed=0)), {"layercam_stages": [-9]}
    check_stages(taught, settings(["gradcam"], cam=beyond))
    check_stages(taught, settings(["layercamfusion"], cam={"layercam_stages": [-1]}))
    with pytest.raises(UserError, match=r"cam.layercam_stages: got \[-9\]"):
        check_stages(taught, settings(["layercamfusion"], cam=beyond))
