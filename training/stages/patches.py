"""The patches of a map's points: cut from the sharpest of the views that saw them, on the planes that suit the others."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tqdm import tqdm

from aprloc_ros.patches import SIDE, Patches
from aprloc_ros.points import MapPoints
from aprloc_ros.refinement.luminance import Luminance
from aprloc_ros.refinement.patches.patch_views import PatchView, Templates
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.views import common_camera, load_views

_MOST_VIEWS = 300      # that are held in memory
_USUAL_DEPTH = 0.35    # logarithms of depths that are about the same: a reference's and the median of a point's views
_WITNESSES = 8         # views beside the reference, at most
_ROUNDS = 8
_DEPTH_SD = 0.05       # of the triangulated depth, relative
_TILT_SD = 1.5         # of a surface's slope to the image plane, as a tangent
_INDEPENDENT = 0.25    # share of the pixels: neighbours share their blur
_DOUBT = 0.25          # a witness counts e^-1 where its likeness is so far from 1
_MODEL = 0.02          # share of a patch's variance that no plane explains, ...
_NOISE = 1.0           # ... and squared grey levels
_LIKENESS = 0.8        # of witnesses in the mean, that makes a patch worth its bytes
_SCALES = 0.4, 2.0     # of a witness


@dataclass(frozen=True, eq=False)
class _Shot:
    """A training image at its full size, rectified."""

    image: Luminance
    seen: np.ndarray   # [H, W] bool: True where a patch may be cut
    T: np.ndarray      # [4, 4] T_map_cam
    view: int          # of the map's


@dataclass(frozen=True, eq=False)
class _Sightings:
    """M times that a shot saw a point, grouped by point."""

    point: np.ndarray    # [M]
    shot: np.ndarray     # [M]
    corner: np.ndarray   # [M, 2] of the pixels around it
    depth_m: np.ndarray  # [M]
    clarity: np.ndarray  # [M] the smaller eigenvalue of the structure tensor; negative where no patch can be cut


def build_patches(points: MapPoints, frames: tuple[Frame, ...], count: int, show: bool = True) -> Patches:
    """At most `count` patches of the map's points, one or two of each. frames: those that the map's views are of, among others."""
    shots, shot_of_view = _shots(points, frames, show)
    sightings = _sightings(points, shots, shot_of_view)
    references, witnesses = _chosen(sightings)
    if not len(references):
        return Patches(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 2, 3),
                       torch.zeros(0, SIDE, SIDE, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    surfaces = _Surfaces(shots, sightings, references)
    for _ in tqdm(range(_ROUNDS), desc='planes of patches', disable=not show, leave=False, mininterval=2.0):
        surfaces.improve(witnesses)
    return surfaces.best(count)


def _shots(points: MapPoints, frames: tuple[Frame, ...], show: bool) -> tuple[list[_Shot], np.ndarray]:
    """At most _MOST_VIEWS of the map's views, and which of them each view is, -1 for none."""
    poses = torch.stack([frame.T_map_cam for frame in frames])
    camera = common_camera(frames, max(min(f.camera.width, f.camera.height) for f in frames))
    shot_of_view, shots = np.full(len(points.view_poses), -1), []
    for view in tqdm(evenly(len(points.view_poses), _MOST_VIEWS), desc='sharp images', disable=not show, leave=False, mininterval=2.0):
        frame = frames[int((poses - points.view_poses[view]).flatten(1).norm(dim=1).argmin())]
        one = load_views((frame,), camera)
        image = Luminance(one.images[0].permute(1, 2, 0).contiguous().numpy(), camera).halved(0)
        shot_of_view[view] = len(shots)
        shots.append(_Shot(image, one.seen[0].numpy(), frame.T_map_cam.numpy(), view))
    return shots, shot_of_view


def _sightings(points: MapPoints, shots: list[_Shot], shot_of_view: np.ndarray) -> _Sightings:
    found, xyz, margin = [], points.xyz.numpy(), SIDE // 2
    for view, number in enumerate(shot_of_view):
        if number < 0:
            continue
        shot, index = shots[number], points.of_view(view).numpy()
        camera, seen = shot.image.camera, (xyz[index] - shot.T[:3, 3]) @ shot.T[:3, :3]
        index, seen = index[seen[:, 2] > 0], seen[seen[:, 2] > 0]
        corner = np.floor(camera.pixels_of(seen)).astype(int)
        low, high = margin, [camera.width - margin - 1, camera.height - margin - 1]
        whole = ((corner >= low) & (corner <= high)).all(1)
        clear = cv2.cornerMinEigenVal(shot.image.image, SIDE)
        clear[cv2.erode(shot.seen.astype(np.uint8), np.ones((SIDE + 1, SIDE + 1))) == 0] = -1.0
        x, y = corner.clip(0, [camera.width - 1, camera.height - 1]).T
        found.append((index, np.full(len(index), number), corner, seen[:, 2], np.where(whole, clear[y, x], -1.0)))
    columns = [np.concatenate(parts) for parts in zip(*found)]
    order = np.argsort(columns[0], kind='stable')
    return _Sightings(*(column[order] for column in columns))


def _chosen(sightings: _Sightings) -> tuple[np.ndarray, list[np.ndarray]]:
    """References, at most two a point, and of each the shots that bear witness."""
    references, witnesses = [], []
    for rows in np.split(np.arange(len(sightings.point)), np.flatnonzero(np.diff(sightings.point)) + 1):
        for row in _clearest(np.log(sightings.depth_m[rows]), sightings.clarity[rows]):
            others = sightings.shot[np.delete(rows, row)]
            if len(others):
                references.append(rows[row])
                witnesses.append(others[np.linspace(0, len(others) - 1, min(_WITNESSES, len(others))).round().astype(int)])
    return np.array(references, dtype=int), witnesses


def _clearest(depth: np.ndarray, clarity: np.ndarray) -> list[int]:
    """Of the views of a point, by the logarithm of its depth [M] and by clarity [M]: the clearest one from about the usual
    distance, and the clearest from another, as which the point looks where a query sees it in other pixels.
    """
    first = int(np.where(np.abs(depth - np.median(depth)) < _USUAL_DEPTH, clarity, -1.0).argmax())
    second = int(np.where(np.abs(depth - depth[first]) > _USUAL_DEPTH, clarity, -1.0).argmax())
    elsewhere = abs(depth[second] - depth[first]) > _USUAL_DEPTH
    return [view for view, is_there in ((first, True), (second, elsewhere)) if is_there and clarity[view] > 0]


class _Surfaces:
    """Planes through N points, each seen by a reference: a depth, and how its logarithm falls with the pixels."""

    def __init__(self, shots: list[_Shot], sightings: _Sightings, rows: np.ndarray):
        self._shots, self._point, self._corner = shots, sightings.point[rows], sightings.corner[rows]
        own = [shots[number] for number in sightings.shot[rows]]
        self._T, self._view = np.stack([shot.T for shot in own]), np.array([shot.view for shot in own])
        camera = own[0].image.camera
        self._focal = np.array([camera.fx, camera.fy])
        self._ray = np.concatenate([(self._corner + 0.5 - [camera.cx, camera.cy]) / self._focal, np.ones((len(rows), 1))], 1)
        self._luminance = np.stack([_cut(shot.image.image, *corner) for shot, corner in zip(own, self._corner)])
        self._templates = Templates(self._luminance)
        self._start = np.stack([np.log(sightings.depth_m[rows]), *np.zeros((2, len(rows)))], 1)   # [N, 3]
        self._plane, self._sd = self._start.copy(), np.array([_DEPTH_SD, *_TILT_SD / self._focal])
        self._likeness = np.zeros(len(rows))

    def _geometry(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres [N, 3], steps [N, 2, 3], and how far a centre moves with the logarithm of its depth [N, 3]."""
        ray = np.exp(self._plane[:, :1]) * self._ray
        steps = np.stack([np.exp(self._plane[:, 0, None]) * np.eye(3)[axis] / self._focal[axis]
                          - ray * self._plane[:, 1 + axis, None] for axis in (0, 1)], 1)
        R = self._T[:, :3, :3]
        along = np.einsum('nij,nj->ni', R, ray)
        return self._T[:, :3, 3] + along, np.einsum('nij,nkj->nki', R, steps), along

    def improve(self, witnesses: list[np.ndarray]) -> None:
        """One step of Gauss and Newton on what the witnesses see, from where the triangulated depth, facing the reference, is likely."""
        centres, steps, along = self._geometry()
        hessian, gradient = np.zeros((len(centres), 3, 3)), np.zeros((len(centres), 3))
        likeness, counts = np.zeros(len(centres)), np.zeros(len(centres))
        numbers = np.repeat(np.arange(len(witnesses)), [len(each) for each in witnesses])
        flat = np.concatenate(witnesses)
        factors = np.concatenate([np.ones((1, SIDE ** 2)), -self._templates.offsets.T])   # of the depth, over a patch
        for number in np.unique(flat):
            rows, shot = numbers[flat == number], self._shots[number]
            view = PatchView.of(centres[rows], steps[rows], shot.T, shot.image.camera)
            templates = self._templates.of(rows)
            fit = templates.fit(shot.image.sample(templates.where(view)))
            usable = view.inside & fit.usable & (view.scale > _SCALES[0]) & (view.scale < _SCALES[1])
            weight = usable * np.exp(-((1 - fit.likeness) / _DOUBT) ** 2) * _INDEPENDENT
            spread = (fit.squared + _MODEL) * templates.squared / SIDE ** 2 + _NOISE
            # A point that moves is as good as a camera that moves the other way.
            motion = -np.einsum('nij,nj->ni', view.jacobian[..., :3], along[rows] @ shot.T[:3, :3])
            jacobian = np.einsum('nkp,nk->np', templates.slopes, motion)[:, None] * factors
            weighted = jacobian * (weight / spread)[:, None, None]
            hessian[rows] += weighted @ jacobian.transpose(0, 2, 1)
            gradient[rows] += (weighted @ fit.left[..., None])[..., 0]
            likeness[rows] += usable * fit.likeness
            counts[rows] += usable
        self._likeness = likeness / np.maximum(counts, 1)
        prior = 1 / self._sd ** 2
        step = np.linalg.solve(hessian + np.diag(prior), (gradient + prior * (self._plane - self._start))[..., None])[..., 0]
        self._plane -= np.clip(step, -self._sd, self._sd)

    def best(self, count: int) -> Patches:
        """Those that look most alike to their witnesses."""
        kept = np.sort(np.argsort(-self._likeness, kind='stable')[:count])
        kept = kept[self._likeness[kept] > _LIKENESS]
        centres, steps, _ = self._geometry()
        return Patches(*(torch.from_numpy(part[kept]) for part in (
            self._point.astype(np.int64), centres, steps.astype(np.float32), self._luminance, self._view)))


def _cut(image: np.ndarray, x: int, y: int) -> np.ndarray:
    half = SIDE // 2
    return image[y - half + 1:y + half + 1, x - half + 1:x + half + 1]
