"""Simple chests: two dark lungs in a bright body, with a heart, each a little different."""

import numpy as np

HEIGHT, WIDTH = 290, 262


def chest(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    body = 150 + 70 * y - 130 * (np.abs(x) > rng.normal(0.88, 0.02)) * (y < 0.4)
    for side in (-1, 1):
        place = rng.normal(0.42, 0.015) * side
        lung = ((x - place) / rng.normal(0.28, 0.015)) ** 2 + ((y + 0.1) / rng.normal(0.6, 0.02)) ** 2
        body = body - rng.normal(110, 6) * (lung < 1)
    heart = ((x - 0.12) / rng.normal(0.22, 0.015)) ** 2 + ((y - 0.25) / 0.28) ** 2
    body = np.where(heart < 1, 190.0, body) + rng.normal(0, 6, body.shape)
    return np.clip(body, 0, 255).astype(np.uint8)
