"""The only door to pytorch-grad-cam: methods that are taken from it as they are, for all classes.

The library runs one class a call, leaves gradients in the parameters and swallows IndexErrors of a `with`
block. Here hooks are released in `finally`, parameters stay untouched and errors pass through.
"""

import warnings

import numpy as np
import torch
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff as factorise
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional

from stage1_classify.model.heads import Head
from stage2_pseudolabel.cam.stages import frozen


def fullgrad(model: nn.Module, images: Tensor, *, map_hw: tuple[int, int] | None = None) -> Tensor:
    """FullGrad: sum over the input and all biases b of Conv2d and BatchNorm2d layers of psi(|gradient x b|).

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019,
    https://arxiv.org/abs/1905.00780. images (B, c, H, W) -> maps (B, K, H, W), non-negative, at the size of
    the images, or averaged down to (B, K, *map_hw).

    Values: psi stretches each channel of each layer to [0, 1] (part of the method as the library has it) and
    the sum over them is kept; the library's last min-max, which would lift absent findings to 1, is left
    out. So a value counts the channels that are at their strongest there. BatchNorm subclasses
    (timm's BatchNormAct2d) count as no layer, as in the library.
    """
    with frozen(model):
        explainer = _AllClassesFullGrad(model, target_layers=[])
        try:
            maps = [_shrink(explainer.class_maps(image), map_hw) for image in images]
            return torch.stack(maps)
        finally:
            explainer.activations_and_grads.release()


class _AllClassesFullGrad(FullGrad):  # type: ignore[misc]
    """The library's FullGrad with one forward for all classes and without its last min-max."""

    def class_maps(self, image: Tensor) -> Tensor:
        """Maps (K, H, W) of one image (c, H, W); one image at a time bounds the library's copies."""
        leaf = image.detach().clone().unsqueeze(0).requires_grad_()
        with torch.inference_mode(False), torch.enable_grad():
            logits = self.activations_and_grads(leaf)[0]
            return torch.stack([self._class_map(leaf, logit) for logit in logits])

    def _class_map(self, leaf: Tensor, logit: Tensor) -> Tensor:
        leaf.grad = None
        self.activations_and_grads.gradients = []
        logit.backward(retain_graph=True)
        layers = self.compute_cam_per_layer(leaf, None, False)
        return torch.from_numpy(np.float32(layers.sum(axis=1)[0]))


def _shrink(maps: Tensor, map_hw: tuple[int, int] | None) -> Tensor:
    return maps if map_hw is None else functional.adaptive_avg_pool2d(maps, map_hw)


def dff(features: Tensor, head: Head, *, dff_components: int = 5) -> Tensor:
    """Deep Feature Factorization: class maps as concept heat maps weighted by the concepts' scores.

    Collins, Achanta and Suesstrunk, "Deep Feature Factorization for Concept Discovery", ECCV 2018,
    https://arxiv.org/abs/1806.10206. features (B, C, h, w) -> maps (B, K, h, w) in [0, dff_components].

    The library factorises x - min(x) of one image (so that a map does not depend on the batch) into
    concepts W (C, n) and heat maps H (n, h, w), both non-negative. A concept's scores are the class
    probabilities of the head at the concept's embedding at its strongest cell, W_n max(H_n) + min(x), and
    map_k = sum_n P(k | concept n) H_n / max(H_n).

    Values: heat maps are divided by their maximum, because the scale between W and H is arbitrary;
    class maps are not scaled any further. A constant feature map has no concepts and gives zeros.
    """
    return torch.stack([_concept_maps(stack, head, components=dff_components) for stack in features])


def _concept_maps(stack: Tensor, head: Head, *, components: int) -> Tensor:
    """Class maps (K, h, w) of one image's features (C, h, w)."""
    array = np.array(stack.detach().cpu().numpy()[None], order="C")  # a copy: the library writes into it
    with warnings.catch_warnings():
        # 200 iterations, fixed by the library; the factors hardly move at the end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        concepts, explanations = factorise(array, n_components=components)
    heat = torch.from_numpy(np.float32(explanations[0])).to(stack.device)
    peaks = heat.flatten(1).amax(1)
    offset = stack.flatten(1).amin(1)
    parts = torch.from_numpy(np.float32(concepts.T)).to(stack.device) - offset
    with torch.no_grad():
        embeddings = parts * peaks[:, None] + offset
        scores = torch.sigmoid(head(embeddings[:, :, None, None]).logits)
    scaled = heat / torch.where(peaks == 0, 1.0, peaks)[:, None, None]
    return torch.einsum("nk,nhw->khw", scores, scaled)
