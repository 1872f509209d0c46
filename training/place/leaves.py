"""Leaves: on trees, as a tile, and in autumn on the ground."""

import numpy as np

from aprloc_ros.training.place.texture import Canvas, seamless

AUTUMN = {'leaves': (214, 150, 40), 'dark leaves': (150, 62, 36), 'blossom': (196, 96, 44)}   # colours they turn to
_FALLEN, _SPREAD_M = 1400, 1.9      # leaves below a tree, and how far from it they lie


def crown(rng, texel_m: float, colour) -> np.ndarray:
    """Leaves one over the other, the lower ones darker."""
    canvas = Canvas(rng, 1.6, 1.6, texel_m, np.array(colour) * 0.25)
    for light in np.sort(rng.uniform(0.35, 1.35, 700)):
        tint = np.array(colour) * light * rng.uniform(0.9, 1.1, 3)
        canvas.disc(*rng.uniform(0, 1.6, 2), rng.uniform(0.03, 0.07), np.clip(tint, 0, 255))
    return seamless(canvas.image)


def fall(rng, ground: Canvas, trees):
    """Draw leaves around trees, (u m, v m, name of their leaves) each, and a few everywhere."""
    for u, v, name in trees:
        for du, dv in rng.normal(0, _SPREAD_M, (_FALLEN, 2)):
            _leaf(rng, ground, u + du, v + dv, AUTUMN[name])
    for u, v in rng.uniform(0, (ground.width_m, ground.height_m), (_FALLEN, 2)):
        _leaf(rng, ground, u, v, AUTUMN['leaves'])


def _leaf(rng, ground: Canvas, u: float, v: float, colour):
    ground.disc(u, v, rng.uniform(0.03, 0.06), np.clip(np.array(colour) * rng.uniform(0.5, 1.25), 0, 255))
