"""Maps of single images by the CAM methods that a finished stage 2 run chose; the service draws them."""

from pathlib import Path

from cxr.arrays import Floats
from cxr.config import parse_settings
from cxr.imaging.equalise import picture_of
from cxr.imaging.files import Pixels
from cxr.imaging.pictures import input_of
from cxr.runs.run_folder import FinishedRun
from eval.leaderboard.names import single_methods
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.cam_maps.balance import stored_scales
from stage2_pseudolabel.cam_maps.mean_of_methods import Maps, maps_of
from stage2_pseudolabel.cam_maps.store import SCALES_FILE
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings


class ImageMaps:
    """The classifier of a stage 2 run with its chosen CAM methods, for one image after the other. Not thread-safe."""

    def __init__(self, stage2: FinishedRun, stage1: Path) -> None:
        """Load the classifier in `stage1`.

        Raises:
            UserError: a run is damaged, or the scales of several networks are missing.
        """
        settings = parse_settings(Stage2Settings, stage2.settings, source=f"run {stage2.dir}")
        self._teacher = Teacher(load_trained(stage1), settings.cam, settings.teacher)
        self.findings = self._teacher.findings
        chosen = stage2.manifest["methods_by_finding"]
        main = next(iter(chosen.values()))
        self.methods: tuple[str, ...] = tuple(chosen.get(name, main) for name in self.findings)
        self._single = single_methods(self.methods)
        num_views = len(self._teacher.member_views)
        self._scales = stored_scales(stage2.dir / "maps" / SCALES_FILE, self._single, num_views=num_views)
        own = self._teacher.trained.settings.input
        self.frame = Frame(own.size_hw, own.keep_aspect, self._teacher.shift_hw())

    def __call__(self, image: Pixels) -> tuple[Floats, list[Maps]]:
        """Calibrated probabilities (K,) and K maps (h, w) of an image (H, W); `frame` says how they lie over it.

        Maps of two findings may differ in size. Several methods as one have the mean of their maps.
        """
        trained = self._teacher.trained
        picture = picture_of(image, trained.settings.input)
        inputs = [input_of(picture, member.input, member.num_channels)[None] for member in trained.members]
        result = self._teacher.maps(inputs, self._single, scales=self._scales)
        stacks = {name: maps.numpy() for name, maps in result.maps.items()}
        by_name = {name: maps_of(stacks, name) for name in dict.fromkeys(self.methods)}
        maps = [by_name[name][0, k] for k, name in enumerate(self.methods)]
        return trained.probabilities_of([logits.numpy() for logits in result.logits])[0], maps
