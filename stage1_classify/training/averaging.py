"""A moving average of the weights, which often validates better than the weights themselves."""

from timm.utils import ModelEmaV3

from stage1_classify.model.classifier import Classifier


def make_average(model: Classifier, decay: float | None) -> ModelEmaV3 | None:
    """An average that begins as `model`, on the same device; None without a decay.

    ``update(model, step=t)`` after the optimiser's move t, from 1, forgets at the rate min(decay, 1 - t^(-2/3)), so
    that the untrained weights do not last: the first move replaces them. Running statistics of norms are averaged in
    the same way, since they belong to the weights; counters are copied.
    """
    return None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)
