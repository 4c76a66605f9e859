"""Rules of the architecture: imports run one way, each library has one import site, files and functions stay small."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("cxr", "eval", "stage1_classify", "stage2_pseudolabel", "stage3_detect")

MAY_IMPORT = {
    "cxr": {"cxr"},
    "eval": {"cxr", "eval"},
    "stage1_classify": {"cxr", "eval", "stage1_classify"},
    "stage2_pseudolabel": {"cxr", "eval", "stage1_classify", "stage2_pseudolabel"},
    "stage3_detect": {"cxr", "eval", "stage3_detect"},
}

# The service shows the classifier's maps; the detector learns the classifier's features or is built on its network.
CLASSIFIER_IN_STAGE3 = {
    "stage3_detect/export/classifier_file.py",
    "stage3_detect/serving/model/cam_maps.py",
    "stage3_detect/distillation/start.py",
    "stage3_detect/distillation/teacher.py",
    "stage3_detect/model/classifier_features.py",
    "stage3_detect/training/classifier_start.py",
}

# Stage 2 takes the classifier and its settings from stage 1, nothing of its training.
FROM_STAGE1 = ("stage1_classify.model", "stage1_classify.settings")

FOLDERS = {
    "stage1_classify": ["settings", "data", "model", "training", "evaluation"],
    "stage2_pseudolabel": ["settings", "cam", "cam_maps", "boxes", "evaluation", "pseudolabels"],
    "stage3_detect": ["settings", "model", "labels", "training", "distillation", "self_training"],
}
"""Folders of a stage in the order of its work: each may import those before it."""

DICOM_RESULTS = (
    "concepts",
    "groups",
    "make",
    "presentation_state",
    "read_report",
    "report",
    "secondary_capture",
    "source",
)
"""Files of stage3_detect/dicom_results that read or write DICOM."""

IMPORT_SITES = {
    "cleanlab": {"eval/audit/label_suspects.py"},
    "edsnlp": {"stage1_classify/reports/matching.py"},
    "spacy": {"stage1_classify/reports/matching.py"},
    "iterstrat": {"cxr/stratified.py"},
    "optuna": {f"stage1_classify/experiments/sweep_{name}.py" for name in ("space", "trials")},
    "wandb": {"cxr/tracking.py"},
    "submitit": {"cxr/runs/cluster.py"},
    "pycocotools": {"cxr/masks.py"},
    "pydicom": {
        *(f"cxr/imaging/{name}.py" for name in ("dicom", "dicom_greys", "dicom_limits")),
        "cxr/phantom/dicom.py",
        *(f"stage3_detect/dicom_results/{name}.py" for name in DICOM_RESULTS),
        *(
            f"stage3_detect/serving/dicom/{name}.py"
            for name in ("events", "examination", "listener", "sender", "worklist", "worklist_client")
        ),
    },
    "pynetdicom": {f"stage3_detect/serving/dicom/{name}.py" for name in ("connection", "events", "listener", "sender")},
    "highdicom": {f"stage3_detect/dicom_results/{name}.py" for name in DICOM_RESULTS},
    "imblearn": {"eval/classification/label_forest.py"},
    "simplejpeg": {"cxr/imaging/jpeg.py", "cxr/imaging/raster.py"},
    "lightning_fabric": {
        "stage1_classify/training/computation.py",
        "stage1_classify/training/fabric.py",
        "stage1_classify/training/recording.py",
        "stage1_classify/training/train.py",
        "stage1_classify/training/trainer.py",
        "stage1_classify/pipeline.py",
        "stage2_pseudolabel/cam_maps/processes.py",
    },
    "fastapi": {
        f"stage3_detect/serving/http/{name}.py"
        for name in ("app", "corrections", "detections", "dicom", "pages", "server", "stow")
    },
    "uvicorn": {"stage3_detect/serving/http/server.py"},
    "prometheus_client": {"stage3_detect/serving/http/monitoring.py"},
    "python_multipart": {"stage3_detect/serving/http/uploads.py"},
    "albumentations": {"stage1_classify/data/augment.py", "stage3_detect/training/train.py"},
}

FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}
MAX_FILE, MAX_RUN, MAX_FUNCTION = 300, 60, 60


@cache
def sources_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sources_of(package)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file, parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Names of the modules that a file imports, in their order."""
    names = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            names.append(node.module or "")
    return tuple(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in sources_of(package):
        name = name_of(path)
        ours = {module for module in imports(path) if module.split(".")[0] in PACKAGES}
        extra = {"stage1_classify", "stage2_pseudolabel"} if name in CLASSIFIER_IN_STAGE3 else set()
        assert {module.split(".")[0] for module in ours} <= MAY_IMPORT[package] | extra, name
        if package == "stage2_pseudolabel":
            taken = {module for module in ours if module.startswith("stage1_classify.")}
            assert all(module.startswith(FROM_STAGE1) for module in taken), (name, taken)
        assert "eval" not in ours, f"{name}: `import eval` would replace the builtin"


def folder_imports(package: str) -> set[tuple[str, str]]:
    """(folder, folder that it imports) inside a package."""
    pairs = set()
    for path in sources_of(package):
        own = path.relative_to(ROOT / package).parts
        for name in imports(path):
            parts = name.split(".")
            if len(own) > 1 and len(parts) > 2 and parts[0] == package and parts[1] != own[0]:
                pairs.add((own[0], parts[1]))
    return pairs


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_folders_import_each_other(package: str) -> None:
    pairs = folder_imports(package)
    assert not {pair for pair in pairs if pair[::-1] in pairs}


@pytest.mark.parametrize("stage", FOLDERS)
def test_folders_of_a_stage_import_in_the_order_of_its_work(stage: str) -> None:
    order = FOLDERS[stage]
    ranked = {pair for pair in folder_imports(stage) if set(pair) <= set(order)}
    assert not {(a, b) for a, b in ranked if order.index(a) < order.index(b)}


@pytest.mark.parametrize("library", IMPORT_SITES)
def test_each_library_is_imported_where_it_is_listed(library: str) -> None:
    users = {name_of(path) for path in sources() if library in {name.split(".")[0] for name in imports(path)}}
    assert users
    assert users <= IMPORT_SITES[library]


def test_only_stage_3_imports_ultralytics() -> None:
    users = [name_of(path) for path in sources() if any(n.split(".")[0] == "ultralytics" for n in imports(path))]
    assert users
    assert all(user.startswith("stage3_detect/") for user in users)


def test_torch_is_imported_before_ultralytics() -> None:
    """Otherwise ultralytics limits OpenMP to one thread in the whole process."""
    for path in sources():
        names = [name.split(".")[0] for name in imports(path)]
        if "ultralytics" in names:
            assert "torch" in names[: names.index("ultralytics")], name_of(path)


def test_eval_needs_no_torch() -> None:
    assert not [name_of(p) for p in sources() if name_of(p).startswith("eval/") and "torch" in set(imports(p))]


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_stay_small(package: str) -> None:
    for path in sources_of(package):
        name = name_of(path)
        assert path.read_text(encoding="utf-8").count("\n") <= (MAX_RUN if path.name == "run.py" else MAX_FILE), name
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, f"{name}: {node.name} is long"
        assert path.stem not in FORBIDDEN_NAMES, name


@pytest.mark.parametrize("stage", [p for p in PACKAGES if p != "cxr"])
def test_nothing_beside_a_run_script_hides_a_library(stage: str) -> None:
    """`python stage/run.py` puts the folder first on the path."""
    import sys

    taken = {path.stem for path in (ROOT / stage).iterdir() if path.stem not in ("run", "__init__", "__pycache__")}
    libraries = {path.stem for path in Path(ast.__file__).parent.iterdir()} | set(sys.stdlib_module_names)
    assert not taken & libraries


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {name_of(path.parent).replace("/", ".") for path in sources() if path.name == "__init__.py"}
    assert set(settings["tool"]["setuptools"]["packages"]) == there


def test_both_opencv_packages_have_one_version() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    versions = {line.split("==")[1].split()[0] for line in lines if line.startswith("opencv-python")}
    assert len(versions) == 1


def test_the_lock_names_no_index_and_hashes_everything() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    blocks = [block for block in text.split("\n") if block and not block.startswith((" ", "#"))]
    assert len(blocks) > 50
    assert all(block.rstrip().endswith("\\") for block in blocks)
