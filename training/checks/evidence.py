"""Pairs of a capture's images, and how far any poses are from what these pairs show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise, product

import numpy as np
import torch

from aprloc_ros.geometry import so3_log
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.structure.triangulation import view_cost, view_pairs
from aprloc_ros.training.structure.two_views import Matcher, ViewPair

_ANCHORS = 24             # frames from which partners are looked for along the capture
_OVERLAPS = 40            # pairs that the declared poses let overlap
_UNORDERED = 24           # frames that are matched each with each where neighbours do not match
_ACROSS = 100             # pairs of frames of different sequences that are tried
_BETWEEN = 20             # frames of either of two drives that are tried, each with each
_NEAREST = 3              # and with those that should look most alike
FEWEST_PAIRS = 8
_JUMPS = 8                # steps of the poses that are looked at: held-out blocks leave some too
JUMP = 5.0                # of the usual step, and more
_LEAST_TURN_RAD = 0.01
_FEWEST_AROUND = 3        # pairs of a step, of nine
FAR = 0.2                 # of the frames: images that lie so far apart in the capture
_WIDE_RAD = 0.2           # a pair whose points move by more says enough
_AGREEMENT_RAD = np.deg2rad(0.3), np.deg2rad(6.0)
_AGREEMENT_SHARE = 0.5    # of the motion between the images


@dataclass(frozen=True, eq=False)
class Evidence:
    """Matches of P pairs of images, M in all, in one row."""

    pairs: tuple[ViewPair, ...]

    @cached_property
    def rays(self) -> np.ndarray:
        """Unit directions of the matched points in either camera, [2, M, 3]."""
        return np.concatenate([pair.rays for pair in self.pairs], 1)

    @cached_property
    def pair_of(self) -> np.ndarray:
        """[M]"""
        return np.repeat(np.arange(len(self.pairs)), [pair.rays.shape[1] for pair in self.pairs])

    @cached_property
    def frames(self) -> np.ndarray:
        """First and second frame of every pair, [2, P]."""
        return np.array([[pair.first for pair in self.pairs], [pair.second for pair in self.pairs]])

    @cached_property
    def agreement_rad(self) -> float:
        """A match that is nearer than this to where poses put it agrees with them: small compared with the motion that
        the poses must explain, and large compared with poses that are a degree or a few centimetres off."""
        return float(np.clip(_AGREEMENT_SHARE * self.moved_rad, *_AGREEMENT_RAD))

    @cached_property
    def moved_rad(self) -> float:
        """How far points move between images, in pairs of much motion."""
        return float(np.quantile([pair.moved_rad for pair in self.pairs], 0.75))

    def residuals(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Poses [N, 4, 4] of all frames -> [M] radians between a match and where the poses let it be.

        A point seen in the first image lies on an arc in the second: from where it is seen if it is infinitely far, to
        where the first camera stands. With cameras in one place the arc is a point, so turns are checked there too.
        """
        first, second = (T_map_cam[index] for index in self.frames)
        R = second[:, :3, :3].swapaxes(1, 2) @ first[:, :3, :3]
        t = np.einsum('pji,pj->pi', second[:, :3, :3], first[:, :3, 3] - second[:, :3, 3])
        far = np.einsum('mij,mj->mi', R[self.pair_of], self.rays[0])
        return _from_arc(far, t[self.pair_of], self.rays[1])

    def of_pairs(self, values: np.ndarray) -> np.ndarray:
        """Medians [P] of values [M]."""
        starts = np.flatnonzero(np.diff(self.pair_of, prepend=-1))
        return np.array([np.median(part) for part in np.split(values, starts[1:])])

    def joined(self, pairs: tuple[ViewPair, ...]) -> 'Evidence':
        """With more pairs of the same frames."""
        return Evidence(self.pairs + pairs) if pairs else self

    def of_few(self) -> tuple['Evidence', np.ndarray]:
        """The same by the numbers of the frames in it, and which frames these are [K]."""
        used, numbers = np.unique(self.frames, return_inverse=True)
        first, second = numbers.reshape(2, -1).tolist()
        return Evidence(tuple(replace(pair, first=a, second=b) for pair, a, b in zip(self.pairs, first, second))), used

    def through(self, focal_factor: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> 'Evidence':
        """The same matches through lenses of another focal length, or of a centre that lies elsewhere by so many of them."""
        return Evidence(tuple(replace(pair, rays=_refracted(pair.rays, focal_factor, shift)) for pair in self.pairs))


def _refracted(rays: np.ndarray, focal_factor: float, shift: tuple[float, float]) -> np.ndarray:
    moved = np.concatenate([(rays[..., :2] - rays[..., 2:] * shift) / focal_factor, rays[..., 2:]], -1)
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def _from_arc(far: np.ndarray, t: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Angles between directions `seen` and the arcs from `far` to `t`; all [M, 3], t of any length, also zero."""
    length = np.linalg.norm(t, axis=1, keepdims=True)
    t = t / length.clip(1e-12)
    normal = np.cross(far, t)
    sine = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / sine.clip(1e-12)
    beside = np.arcsin(np.abs((normal * seen).sum(1)).clip(0, 1))
    between = (((np.cross(normal, far) * seen).sum(1) >= 0) & ((np.cross(t, normal) * seen).sum(1) >= 0)
               & (sine[:, 0] > 1e-9))
    ends = np.where(length[:, 0] > 1e-12, np.minimum(_angle(far, seen), _angle(t, seen)), _angle(far, seen))
    return np.where(between, beside, ends)


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))


def gather(frames: tuple[Frame, ...]) -> Evidence | None:
    """Pairs along the capture and pairs that the poses let overlap, matched by the images alone. None where too few match."""
    matcher = Matcher(frames)
    pairs = _along(matcher, frames)
    if len(pairs) < FEWEST_PAIRS:
        chosen = _even(len(frames), _UNORDERED)
        pairs = [pair for a, b in combinations(chosen, 2) if (pair := matcher.match(a, b))]
    known = {(pair.first, pair.second) for pair in pairs}
    overlaps = (pair for a, b in _overlaps(frames, matcher.read) if (a, b) not in known and (pair := matcher.match(a, b)))
    pairs += overlaps
    return Evidence(tuple(pairs)) if len(pairs) >= FEWEST_PAIRS else None


def gather_jumps(frames: tuple[Frame, ...]) -> Iterator[tuple[int, Evidence]]:
    """Frames to which the poses go much further than from one image to the next elsewhere, with pairs of images around the step."""
    T = torch.stack([frame.T_map_cam for frame in frames])
    step_m, turn_rad = (T[1:, :3, 3] - T[:-1, :3, 3]).norm(dim=1), so3_log(T[:-1, :3, :3].mT @ T[1:, :3, :3]).norm(dim=1)
    size = torch.maximum(step_m / step_m.median().clamp_min(1e-9), turn_rad / turn_rad.median().clamp_min(_LEAST_TURN_RAD))
    size[[a.sequence != b.sequence for a, b in pairwise(frames)]] = 0
    matcher = Matcher(frames)
    for step in size.argsort(descending=True, stable=True)[:_JUMPS].tolist():
        if size[step] < JUMP:
            break
        around = product(range(max(0, step - 2), step + 1), range(step + 1, min(len(frames), step + 4)))
        pairs = [pair for a, b in around if frames[a].sequence == frames[b].sequence and (pair := matcher.match(a, b))]
        if len(pairs) >= _FEWEST_AROUND:
            yield step + 1, Evidence(tuple(pairs))


def gather_across(frames: tuple[Frame, ...]) -> Evidence | None:
    """Pairs of different sequences, found by the images alone. None where too few match: they may well show other places."""
    matcher, found = Matcher(frames), []
    starts = [index for index in range(1, len(frames)) if frames[index].sequence != frames[index - 1].sequence]
    parts = np.split(np.arange(len(frames)), starts)
    each = int(np.sqrt(_ACROSS / max(1, len(parts) - 1)))
    for a, b in pairwise(parts):
        chosen = ([int(part[i]) for i in _even(len(part), each)] for part in (a, b))
        found += [pair for first, second in product(*chosen) if (pair := matcher.match(first, second))]
    return Evidence(tuple(found)) if len(found) >= FEWEST_PAIRS else None


def gather_returns(frames: tuple[Frame, ...], among: Sequence[int]) -> tuple[ViewPair, ...]:
    """Pairs of places where the capture came by again: each of the frames `among` with the one that should look most alike by the poses
    of those that are far from it in the capture."""
    number = torch.tensor(among)
    cost = view_cost(torch.stack([frames[index].T_map_cam for index in among]))
    cost[(number[:, None] - number).abs() <= FAR * len(frames)] = torch.inf
    least, other = cost.min(1)
    found = sorted({tuple(sorted((among[a], among[b]))) for a, b in enumerate(other.tolist()) if torch.isfinite(least[a])})
    matcher = Matcher(frames)
    return tuple(pair for a, b in found if (pair := matcher.match(a, b)))


def gather_between(before: tuple[Frame, ...], frames: tuple[Frame, ...]) -> tuple[Evidence, int]:
    """Pairs of a drive and of those before it, that should overlap by the poses and any, and how many were tried.

    Frames are numbered through both."""
    matcher, first = Matcher((*before, *frames)), len(before)
    cost = view_cost(torch.stack([frame.T_map_cam for frame in matcher.frames]))[first:, :first]
    chosen = _even(len(frames), _BETWEEN)
    tried = set(product(_even(first, _BETWEEN), (first + index for index in chosen)))
    for index in chosen:
        near = cost[index].topk(min(_NEAREST, first), largest=False)
        tried |= {(other, first + index) for other in near.indices[torch.isfinite(near.values)].tolist()}
    found = (matcher.match(*pair) for pair in sorted(tried))
    return Evidence(tuple(pair for pair in found if pair)), len(tried)


def _even(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def _along(matcher: Matcher, frames: tuple[Frame, ...]) -> list[ViewPair]:
    """From evenly chosen frames to the one 1, 2, 4, ... frames later that is as far as still matches."""
    found, rank = [], 2
    for anchor in _even(len(frames), _ANCHORS):
        steps = (2 ** power for power in range(len(frames).bit_length()))
        partners = [anchor + step for step in steps
                    if anchor + step < len(frames) and frames[anchor + step].sequence == frames[anchor].sequence]
        pair, rank = matcher.widest(anchor, partners, max(0, rank - 1), _WIDE_RAD)
        found += [pair] if pair else []
    return found


def _overlaps(frames: tuple[Frame, ...], among: Sequence[int]) -> list[tuple[int, int]]:
    """A few of the pairs that look the same way by their poses."""
    pairs = view_pairs(torch.stack([frames[index].T_map_cam for index in among]))
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_OVERLAPS]
    return [(among[a], among[b]) for a, b in (pairs[index] for index in chosen)]
