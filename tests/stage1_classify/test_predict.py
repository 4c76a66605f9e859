"""`predict.py` as a user calls it: images, or a settings file of a labelled data set."""

from pathlib import Path

import pytest
import yaml

from cxr.cli import EXIT_DONE, EXIT_USER, exit_code
from cxr.runs.run_folder import open_run
from stage1_classify.predict import main, parse
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings, untrained_run


def call(*words: str | Path) -> int:
    return exit_code(lambda: main(parse([str(word) for word in words])))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = patch_folder(tmp_path_factory.mktemp("data"), num_images=24)
    untrained_run(stage1_settings(root), root / "run", weights_seed=0)
    (root / "own.yaml").write_text(yaml.safe_dump(stage1_settings(root).model_dump(mode="json"), sort_keys=False))
    return root


def test_images_and_labelled_sets_go_to_folders_next_to_the_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(root / "run", root / "images" / "p001.png", root / "images" / "p002.png") == EXIT_DONE
    assert capsys.readouterr().out.startswith("2 images predicted -> ")
    assert open_run(root / "predictions" / "p001").metrics["images"] == 2
    assert call(root / "run", root / "own.yaml", "--set", "seed=3") == EXIT_DONE
    assert open_run(root / "predictions" / "own").metrics["auroc/mean"] == open_run(root / "run").metrics["auroc/mean"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["own.yaml", "images"], "a settings file stands alone"),
        (["images", "--part", "test"], "--part and --set belong to"),
        (["gone.yaml"], "gone.yaml"),
    ],
)
def test_mistakes_end_with_exit_code_2(
    root: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert call("run", *words) == EXIT_USER
    assert message in capsys.readouterr().err
