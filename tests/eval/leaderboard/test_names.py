"""Names of the entries of a leaderboard."""

import doctest

from eval.leaderboard import names
from eval.leaderboard.names import display_name, fused_name, fusion_of, methods_of, sentence_name


def test_examples_of_the_docstrings_are_right() -> None:
    results = doctest.testmod(names)
    assert results.attempted >= 2
    assert results.failed == 0


def test_single_methods_and_other_entries_fuse_nothing() -> None:
    for name in ("pcam", "prior_mean_box", "maps_pcam", "boxes", "my+run"):
        assert fusion_of(name) == ""
        assert methods_of(name) == (name,)
    assert display_name("my+run") == "my+run"


def test_a_fusion_is_named_after_its_methods() -> None:
    name = fused_name("boxes", ["layercam", "gradcamplusplus"])
    assert (fusion_of(name), methods_of(name)) == ("boxes", ("layercam", "gradcamplusplus"))
    assert display_name(name) == "box fusion of LayerCAM + GradCAM++"
    assert sentence_name("maps_layercam+pcam") == "the mean map of LayerCAM + PCAM"
