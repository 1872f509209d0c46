"""A first pose from loss maps alone: M-estimator sample consensus over P3P solutions (NRE section 5.1, Eq. 8)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aprloc_ros.refinement.gnc import Pinhole, minimise
from aprloc_ros.refinement.loss_maps import LossMaps
from aprloc_ros.refinement.points.p3p import p3p

_PEAKED_SHARE = 0.5      # of a group's maps: triples are drawn from the surest ones
_FEWEST_PEAKED = 30
_BATCH = 120             # triples between two looks at whether enough were drawn
_CONFIDENCE = 0.999
_SUPPORT = 1.5           # a map supports a pose if its best cell is so many sigmas away at most
_FIRST_POINTS = 80       # score every hypothesis; the best of a batch go on to the rest
_SCORED_POINTS = 400
_LIKELIEST = 4           # cells of a map tell hypotheses apart
_GO_ON = 16
_FOLLOWED = 3            # of those that go on, downhill: ...
_FOLLOWED_SIGMAS = 1.4   # ... what three cells say of a pose is seldom near enough for all the others to agree
_FOLLOWED_STEPS = 8
_FINALISTS = 8
_ELSEWHERE = 0.2         # of the distance of the points' middle
_AS_GOOD = 0.9           # of a score: of two places that look alike either may have so much more, by the luck of the draw


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A pose and how well all maps speak of it."""

    T_cam_map: np.ndarray   # [4, 4]
    score: float            # mean gain of Eq. 9's negative at the sigma of the search: the larger the better
    runner_up: float        # score of the best hypothesis that is elsewhere
    support: float          # share of the maps whose best cell agrees


@dataclass(eq=False)
class _Search:
    """Hypotheses T_cam_map about where a camera is from whose image the maps are."""

    maps: LossMaps
    xyz: np.ndarray      # [N, 3]
    camera: Pinhole
    sigma_cells: float
    scored: np.ndarray   # rows of the maps that score
    poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))   # theirs

    def add(self, poses: np.ndarray) -> np.ndarray:
        """Their scores [H]."""
        scores = self.score(self.scored, poses)
        self.poses, self.scores = np.concatenate([self.poses, poses]), np.concatenate([self.scores, scores])
        return scores

    def score(self, rows: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Mean gain of these maps under each pose [H, 4, 4] -> [H]."""
        maps, camera = self.maps, self.camera
        intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        homogeneous = np.concatenate([self.xyz[rows], np.ones((len(rows), 1))], 1).T
        seen = ((intrinsics @ poses[:, :3]).reshape(-1, 4) @ homogeneous).reshape(-1, 3, len(rows))
        z = np.where(seen[:, 2] > 1e-6, seen[:, 2], np.inf)
        u, v = (seen[:, 0] / z).astype(np.float32), (seen[:, 1] / z).astype(np.float32)
        inside = np.isfinite(z) & (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (v < camera.height - 0.5)
        total = np.zeros_like(u)
        for k in range(min(_LIKELIEST, maps.cells.shape[1])):
            x, y = maps.cells[rows, k].T
            squared = np.square(u - x) + np.square(v - y)
            total += np.exp(squared * np.float32(-0.5 / self.sigma_cells ** 2)) * maps.gains[rows, k]
        return (total * inside).mean(1, dtype=np.float64)

    def followed(self, poses: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Where the best of these [H, 4, 4] lead, downhill on the maps that score (LO-RANSAC: Chum, Matas and Kittler, DAGM 2003)."""
        few = self.maps.of(self.scored, _LIKELIEST)
        ends = [minimise(few, self.xyz[self.scored], self.camera, T, _FOLLOWED_SIGMAS * self.sigma_cells, _FOLLOWED_STEPS).T_cam_map
                for T in poses[np.argsort(-scores)[:_FOLLOWED]]]
        return np.array(ends).reshape(-1, 4, 4)

    def is_over(self, groups: list[np.ndarray], drawn: int) -> bool:
        """Whether so many triples, each within a group, make it nearly certain that one of them was free of outliers."""
        if not len(self.poses):
            return False
        supports = self.supporters(self.poses[self.scores.argmax()])
        clean = min(float(np.mean([supports[rows].mean() ** 3 for rows in groups])), 1 - 1e-9)
        return clean > 0 and drawn >= math.log(1 - _CONFIDENCE) / math.log(1 - clean)

    def supporters(self, T_cam_map: np.ndarray) -> np.ndarray:
        """Which maps agree with a pose [4, 4]: [N] bool."""
        cells, _, inside = self.camera.project(self.xyz, T_cam_map)
        return inside & (np.hypot(*(cells - self.maps.best).T) < _SUPPORT * self.sigma_cells)


def msac(maps: LossMaps, xyz: np.ndarray, camera: Pinhole, groups: list[np.ndarray], starts: np.ndarray,
         most_triples: int, generator: np.random.Generator,
         in_time: Callable[[], bool] = lambda: True, sigma_cells: float = 1.0) -> Hypothesis | None:
    """The best of the starts [S, 4, 4] T_cam_map and of P3P on random triples of maps; None where there is nothing.

    Where two places explain the maps about as well, the one where the first start is.
    groups: rows of maps that were seen together. A triple is of one group: where most groups show another place, three
    points of different ones are hardly ever right together. All hypotheses are scored on a few hundred maps by their
    sparse gains under a Gaussian of sigma_cells, which is Eq. 6 with a kernel in place of the bilinear one: a pose half a
    cell off still scores. The best of each batch are also followed downhill. Draws end early once a triple without an outlier is
    nearly certain to have been among them, or, after the first batch, where it is no longer in time.
    """
    if len(maps) < 4:
        return None
    every = np.arange(len(maps))
    rays = (maps.best.astype(np.float64) - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    surest = _surest(groups, maps.sureness)
    search = _Search(maps, xyz, camera, sigma_cells, generator.permutation(len(maps))[:_SCORED_POINTS])
    search.add(starts)
    drawn, left_out = 0, []
    while surest and drawn < most_triples and (not drawn or in_time()):
        triples = _draw(surest, min(_BATCH, most_triples - drawn), generator)
        drawn += len(triples)
        found = p3p(xyz[triples], rays[triples])
        order = np.argsort(-search.score(search.scored[:_FIRST_POINTS], found))
        promising = found[order[:_GO_ON]]
        left_out.append(found[order[_GO_ON:]])
        search.add(search.followed(promising, search.add(promising)))
        if search.is_over(surest, drawn):
            break
    if not len(search.poses):
        return None
    finalists = np.argsort(-search.scores)[:_FINALISTS]
    final = search.score(every, search.poses[finalists])
    winner = search.poses[_as_expected(search.poses, search.scores, finalists[final.argmax()], starts, xyz.mean(0))]
    # The promising are mostly one pose over and over: who comes second is found among the others, too.
    rivals = _elsewhere(np.concatenate([search.poses, *left_out]), winner, xyz.mean(0))
    rivals = rivals[np.argsort(-search.score(search.scored[:_FIRST_POINTS], rivals))[:_GO_ON]]
    scores = search.score(search.scored, rivals)
    followed = _elsewhere(search.followed(rivals, scores), winner, xyz.mean(0))
    runner_up = max(scores.max(initial=0.0), search.score(search.scored, followed).max(initial=0.0))
    return Hypothesis(winner, float(search.score(every, winner[None])[0]), float(runner_up), float(search.supporters(winner).mean()))


def _surest(groups: list[np.ndarray], sureness: np.ndarray) -> list[np.ndarray]:
    """The surest rows of each group that can make a triple."""
    kept = [rows[np.argsort(-sureness[rows])[:max(_FEWEST_PEAKED, int(_PEAKED_SHARE * len(rows)))]] for rows in groups]
    return [rows for rows in kept if len(rows) >= 3]


def _draw(groups: list[np.ndarray], count: int, generator: np.random.Generator) -> np.ndarray:
    """Triples of rows [count, 3], each within a random group; equal rows make a triangle that P3P leaves out."""
    chosen = generator.integers(len(groups), size=count)
    return np.stack([groups[group][generator.integers(len(groups[group]), size=3)] for group in chosen])


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
