"""A first pose from loss maps alone: M-estimator sample consensus over P3P solutions (NRE section 5.1, Eq. 8)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.loss_maps import LossMaps
from aprloc_ros.refinement.points.p3p import p3p

_PEAKED_SHARE = 0.5      # of a group's maps: triples are drawn from the surest ones
_FEWEST_PEAKED = 30
_BATCH = 120             # triples between two looks at whether enough were drawn
_CONFIDENCE = 0.999
_SUPPORT_CELLS = 1.5     # a map supports a pose if its best cell is so near
_FIRST_POINTS = 80       # score every hypothesis; the best of a batch go on to the rest
_SCORED_POINTS = 400
_GO_ON = 16
_FINALISTS = 8
_ELSEWHERE = 0.2         # of the distance of the points' middle
_AS_GOOD = 0.9           # of a score: of two places that look alike either may have so much more, by the luck of the draw
_SIGMA_CELLS = 1.0


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A pose and how well all maps speak of it."""

    T_cam_map: np.ndarray   # [4, 4]
    score: float            # mean gain of Eq. 9's negative at a sigma of one cell: the larger the better
    runner_up: float        # score of the best hypothesis that is elsewhere
    support: float          # share of the maps whose best cell agrees


def msac(maps: LossMaps, xyz: np.ndarray, camera: Pinhole, groups: list[np.ndarray], starts: np.ndarray,
         most_triples: int, generator: np.random.Generator,
         in_time: Callable[[], bool] = lambda: True) -> Hypothesis | None:
    """The best of the starts [S, 4, 4] T_cam_map and of P3P on random triples of maps; None where there is nothing.

    Where two places explain the maps about as well, the one where the first start is.
    groups: rows of maps that were seen together. A triple is of one group: where most groups show another place, three
    points of different ones are hardly ever right together. All hypotheses are scored on a few hundred maps by their
    sparse gains under a Gaussian of one cell, which is Eq. 6 with a kernel in place of the bilinear one: a pose half a
    cell off still scores. Draws end early once a triple without an outlier is nearly certain to have been among them, or, after
    the first batch, where it is no longer in time.
    """
    if len(maps) < 4:
        return None
    best = maps.best
    rays = (best.astype(np.float64) - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    surest = _surest(groups, maps.sureness)
    scored = generator.permutation(len(maps))[:_SCORED_POINTS]
    poses, scores = starts, _scores(maps, scored, xyz, camera, starts)
    drawn, left_out = 0, []
    while surest and drawn < most_triples and (not drawn or in_time()):
        count = min(_BATCH, most_triples - drawn)
        drawn += count
        triples = _draw(surest, count, generator)
        found = p3p(xyz[triples], rays[triples])
        order = np.argsort(-_scores(maps, scored[:_FIRST_POINTS], xyz, camera, found))
        promising = found[order[:_GO_ON]]
        left_out.append(found[order[_GO_ON:]])
        poses = np.concatenate([poses, promising])
        scores = np.concatenate([scores, _scores(maps, scored, xyz, camera, promising)])
        if len(poses) and drawn >= _enough(surest, xyz, best, camera, poses[scores.argmax()]):
            break
    if not len(poses):
        return None
    finalists = np.argsort(-scores)[:_FINALISTS]
    final = _scores(maps, np.arange(len(maps)), xyz, camera, poses[finalists])
    winner = _as_expected(poses, scores, finalists[final.argmax()], starts, xyz.mean(0))
    # The promising are mostly one pose over and over: who comes second is found among the others, too.
    rivals = _elsewhere(np.concatenate([poses, *left_out]), poses[winner], xyz.mean(0))
    rivals = rivals[np.argsort(-_scores(maps, scored[:_FIRST_POINTS], xyz, camera, rivals))[:_GO_ON]]
    runner_up = _scores(maps, scored, xyz, camera, rivals).max(initial=0.0)
    return Hypothesis(poses[winner], float(_scores(maps, np.arange(len(maps)), xyz, camera, poses[winner:winner + 1])[0]), float(runner_up),
                      float(_supporters(xyz, best, camera, poses[winner]).mean()))


def _surest(groups: list[np.ndarray], sureness: np.ndarray) -> list[np.ndarray]:
    """The surest rows of each group that can make a triple."""
    kept = [rows[np.argsort(-sureness[rows])[:max(_FEWEST_PEAKED, int(_PEAKED_SHARE * len(rows)))]] for rows in groups]
    return [rows for rows in kept if len(rows) >= 3]


def _draw(groups: list[np.ndarray], count: int, generator: np.random.Generator) -> np.ndarray:
    """Triples of rows [count, 3], each within a random group; equal rows make a triangle that P3P leaves out."""
    chosen = generator.integers(len(groups), size=count)
    return np.stack([groups[group][generator.integers(len(groups[group]), size=3)] for group in chosen])


def _scores(maps: LossMaps, chosen: np.ndarray, xyz: np.ndarray, camera: Pinhole, poses: np.ndarray) -> np.ndarray:
    """Mean gain of the chosen maps under each pose [H, 4, 4] -> [H]."""
    intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    homogeneous = np.concatenate([xyz[chosen], np.ones((len(chosen), 1))], 1).T
    seen = ((intrinsics @ poses[:, :3]).reshape(-1, 4) @ homogeneous).reshape(-1, 3, len(chosen))
    z = np.where(seen[:, 2] > 1e-6, seen[:, 2], np.inf)
    u, v = (seen[:, 0] / z).astype(np.float32), (seen[:, 1] / z).astype(np.float32)
    inside = np.isfinite(z) & (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (v < camera.height - 0.5)
    total = np.zeros_like(u)
    # Only the few likeliest cells of a map tell hypotheses apart.
    for k in range(min(4, maps.cells.shape[1])):
        x, y = maps.cells[chosen, k].T
        squared = np.square(u - x) + np.square(v - y)
        total += np.exp(squared * np.float32(-0.5 / _SIGMA_CELLS ** 2)) * maps.gains[chosen, k]
    return (total * inside).mean(1, dtype=np.float64)


def _supporters(xyz: np.ndarray, best: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> np.ndarray:
    cells, _, inside = camera.project(xyz, T_cam_map)
    return inside & (np.hypot(*(cells - best).T) < _SUPPORT_CELLS)


def _enough(groups: list[np.ndarray], xyz: np.ndarray, best: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray) -> float:
    """How many triples make it nearly certain that one of them was free of outliers."""
    supports = _supporters(xyz, best, camera, T_cam_map)
    clean = min(float(np.mean([supports[rows].mean() ** 3 for rows in groups])), 1 - 1e-9)
    return math.inf if clean <= 0 else math.log(1 - _CONFIDENCE) / math.log(1 - clean)


def _elsewhere(poses: np.ndarray, winner: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The poses that put the points' middle [3] elsewhere than the winner: by a fifth of its distance or more."""
    return poses[_apart(poses, winner, middle) > _ELSEWHERE]


def _apart(poses: np.ndarray, winner: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """How far from where the winner puts the points' middle the poses [H, 4, 4] do, in its distance: [H]."""
    seen, there = (T[..., :3, :3] @ middle + T[..., :3, 3] for T in (poses, winner))
    return np.linalg.norm(seen - there, axis=1) / np.linalg.norm(there)


def _as_expected(poses: np.ndarray, scores: np.ndarray, winner: int, starts: np.ndarray, middle: np.ndarray) -> int:
    """The winner, or the best of the poses where the first start is, if that is elsewhere and explains the maps about as well."""
    if not len(starts) or _apart(poses[winner:winner + 1], starts[0], middle)[0] <= _ELSEWHERE:
        return winner
    expected = np.where(_apart(poses, starts[0], middle) <= _ELSEWHERE, scores, -np.inf)
    return int(expected.argmax()) if expected.max() >= _AS_GOOD * scores[winner] else winner
