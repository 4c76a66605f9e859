"""What the parts of gpu.sh compute: on a card, and tiny, which a CPU does in seconds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """backbone to compile_backend: training. phantom: patients and images to generate. changes: `--set` of the demo's
    settings, by stage. *_px: sides of square inputs."""

    backbone: str
    image_px: int
    batch_size: int
    num_steps: int
    num_repeats: int
    compile_backend: str
    num_cam_images: int
    num_classes: int
    phantom: Mapping[str, float]
    changes: Mapping[str, tuple[str, ...]]
    detector_px: int
    num_detector_images: int
    num_detector_epochs: int
    detector_batch: int
    num_workers: int
    num_predict_images: int
    predict_batch: int


FULL = Sizes(
    backbone="convnext_large",
    image_px=384,
    batch_size=64,
    num_steps=20,
    num_repeats=3,
    compile_backend="inductor",
    num_cam_images=4,
    num_classes=14,
    phantom={"num_patients_train": 150, "num_patients_valid": 50, "num_vindr_train": 40, "num_vindr_test": 40},
    changes={
        "stage1": ("train.num_epochs=4",),
        "stage2": ("num_resamples=200", "max_faithfulness_pairs=8"),
        "stage3": ("train.num_epochs=3", "num_resamples=200", "num_workers=4"),
    },
    detector_px=640,
    num_detector_images=512,
    num_detector_epochs=3,
    detector_batch=32,
    num_workers=min(8, os.cpu_count() or 1),
    num_predict_images=50,
    predict_batch=32,
)

TINY = Sizes(
    backbone="test_convnext2",
    image_px=64,
    batch_size=4,
    num_steps=1,
    num_repeats=1,
    compile_backend="eager",
    num_cam_images=2,
    num_classes=2,
    phantom={
        "num_patients_train": 40,
        "num_patients_valid": 24,
        "num_vindr_train": 14,
        "num_vindr_test": 16,
        "normal_share": 0.3,
    },
    changes={
        "stage1": (
            "findings=[Cardiomegaly, Lung Opacity]",
            "backbone={name: test_convnext, feature_stage: 1}",
            "input.size_hw=[48, 64]",
            "train={num_epochs: 1, batch_size: 8, min_positives: 1}",
        ),
        "stage2": (
            "methods=[gradcam, layercam]",
            "pseudo_labels.min_likelihood_ratio=0",
            "max_faithfulness_pairs=1",
            "num_resamples=20",
        ),
        "stage3": (
            "data.image_px=64",
            "train={num_epochs: 1, batch_size: 4, learning_rate: 0.002}",
            "export.formats=[onnx]",
            "num_resamples=20",
        ),
    },
    detector_px=64,
    num_detector_images=8,
    num_detector_epochs=2,
    detector_batch=4,
    num_workers=0,
    num_predict_images=1,
    predict_batch=2,
)
