"""A map, its cameras and a replay's trajectory as one interactive page that needs nothing but a browser."""

import base64
import csv
import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.geometry import far_from_origin, nearer, pose, pose_errors, quaternion_to_rotation
from aprloc_ros.viewing.cloud import Cloud, evenly, frustum_lines

TRUTH, ESTIMATE, ERROR, CAMERAS = (76, 175, 80), (239, 83, 80), (120, 120, 120), (100, 181, 246)
_MAX_CAMERAS = 400
_CAMERA_SIZE = 0.02                       # of the picture's radius
_TRAJECTORY_POINT = 4                     # pixels
TRACK_FILES = ('poses.csv', 'estimates.csv', 'estimates.tum')   # of a report or a replay, the first that is there
RESULTS_FILE = 'results.json'   # of either, names the map
_PARTS = ('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')


@dataclass(frozen=True, eq=False)
class Track:
    """Where a drive was said to be."""

    names: list[str]
    T_estimate: Tensor          # [N, 4, 4] float64
    T_truth: Tensor | None      # [N, 4, 4] float64, where it is known


def write_page(path: Path, title: str, cloud: Cloud, camera: Camera, T_map_cam: Tensor, track: Track | None = None,
               ) -> Path:
    """Write the page -> its path. T_map_cam: [V, 4, 4] of the map's training views; the track is drawn over them."""
    # A browser draws in single precision: whole kilometres nearer to the origin, where a survey's coordinates are fine enough.
    far = far_from_origin(T_map_cam)
    T_map_cam, xyz = nearer(T_map_cam, far), cloud.xyz - far
    track = track and replace(track, T_estimate=nearer(track.T_estimate, far),
                              T_truth=None if track.T_truth is None else nearer(track.T_truth, far))
    centre, radius = _extent(torch.cat([xyz, T_map_cam[:, :3, 3]]))
    frusta = frustum_lines(camera, evenly(T_map_cam, _MAX_CAMERAS), _CAMERA_SIZE * radius)
    layers = [_layer('map', 'points', xyz, rgb=cloud.rgb),
              _layer(f'{len(T_map_cam)} training views', 'lines', frusta, CAMERAS, shown=track is None)]
    scene = {'title': title, 'up': _up(T_map_cam), 'centre': centre.tolist(), 'radius': radius,
             'layers': layers + (_track_layers(track) if track else []), 'frames': _frames(track) if track else []}
    template = resources.files('aprloc_ros.viewing').joinpath('view.html').read_text(encoding='utf-8')
    # Inside a script element only '<' could end it early.
    text = json.dumps(scene, allow_nan=False).replace('<', '\\u003c')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.replace('@SCENE@', text), encoding='utf-8')
    return path


def _layer(name: str, mode: str, xyz: Tensor, colour: tuple | None = None, rgb: Tensor | None = None,
           size: int | None = None, shown: bool = True) -> dict:
    """xyz [..., 3] drawn as 'points', as 'lines' between pairs or as a 'strip', in one colour or rgb [..., 3] uint8."""
    return {'name': name, 'mode': mode, 'xyz': _base64(xyz.reshape(-1, 3).float().numpy().astype('<f4')),
            'colour': colour, 'rgb': None if rgb is None else _base64(rgb.numpy()), 'size': size, 'shown': shown}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode('ascii')


def _extent(points: Tensor) -> tuple[Tensor, float]:
    """Centre [3] and radius that hold most of the points [N, 3], whatever strays outside."""
    centre = points.median(0).values
    radius = np.quantile((points - centre).norm(dim=-1).numpy(), 0.9).item()
    return centre, max(radius, 1e-3)


def _up(T_map_cam: Tensor) -> list[float]:
    """Against the mean of the cameras' y axes, which point down."""
    up = -T_map_cam[:, :3, 1].mean(0)
    return (up / up.norm()).tolist() if up.norm() > 0.1 else [0.0, 0.0, 1.0]


def _track_layers(track: Track) -> list[dict]:
    estimate = track.T_estimate[:, :3, 3]
    layers = [_layer('estimate', 'points', estimate, ESTIMATE, size=_TRAJECTORY_POINT)]
    if track.T_truth is not None:
        truth = track.T_truth[:, :3, 3]
        layers = [_layer('truth', 'strip', truth, TRUTH),
                  _layer('truth, frames', 'points', truth, TRUTH, size=_TRAJECTORY_POINT), *layers,
                  _layer('error', 'lines', torch.stack([truth, estimate], 1), ERROR)]
    return layers


def _frames(track: Track) -> list[dict]:
    """For the slider: what is said about each frame and which points it marks."""
    points = [[{'xyz': xyz, 'colour': ESTIMATE}] for xyz in track.T_estimate[:, :3, 3].tolist()]
    texts = list(track.names)
    if track.T_truth is not None:
        for marked, xyz in zip(points, track.T_truth[:, :3, 3].tolist(), strict=True):
            marked.append({'xyz': xyz, 'colour': TRUTH})
        error_m, error_deg = pose_errors(track.T_estimate, track.T_truth)
        texts = [f'{name}: off by {m:.3f} m, {deg:.2f}°'
                 for name, m, deg in zip(texts, error_m.tolist(), error_deg.tolist(), strict=True)]
    return [{'text': text, 'points': marked} for text, marked in zip(texts, points, strict=True)]


def read_track(path: Path) -> Track:
    """A report's or replay's directory, its CSV (truth_x ... estimate_qz) or a TUM file -> its poses.

    Raises AprlocError for what is not there, not readable or without poses.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in TRACK_FILES if (path / name).is_file()]
        if not found:
            raise AprlocError(f'{path}: none of {", ".join(TRACK_FILES)} is there; name a report, a replay or a file')
        path = found[0]
    if not path.exists():
        raise AprlocError(f'{path}: there is no such report, replay or TUM file; make one with: aprloc replay BAG --map NAME '
                          f'--out {typed(path)}')
    read = _read_csv if path.suffix == '.csv' else _read_tum
    try:
        track = read(path)
    except (OSError, UnicodeError, csv.Error, LookupError, ValueError, TypeError) as error:
        raise AprlocError(f'{path}: not poses as a CSV of a report or a TUM file: {error}') from None
    if not len(track.T_estimate):
        raise AprlocError(f'{path}: holds no pose')
    return track


def map_of(path: Path) -> str:
    """The map that a report's or replay's directory, or a file in it, says it was made with; empty where nothing says it."""
    return _said(path, 'map')


def frame_of(path: Path) -> str:
    """The fingerprint of that map's frame then; empty where nothing says it."""
    return _said(path, 'frame')


def _said(path: Path, what: str) -> str:
    path = Path(path)
    try:
        results = json.loads(((path if path.is_dir() else path.parent) / RESULTS_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return ''
    said = results.get(what) if isinstance(results, dict) else None
    return said if isinstance(said, str) else ''


def _read_csv(path: Path) -> Track:
    """The answered frames; where the truth of some is known, those."""
    with path.open(newline='', encoding='utf-8-sig') as file:
        rows = [row for row in csv.DictReader(file) if row['estimate_x']]
    judged = [row for row in rows if row.get('truth_x')]
    return Track([row.get('name') or row['stamp_s'] for row in judged or rows], _poses(judged or rows, 'estimate'),
                 _poses(judged, 'truth') if judged else None)


def _poses(rows: list[dict], prefix: str) -> Tensor:
    return _to_poses([[row[f'{prefix}_{part}'] for part in _PARTS] for row in rows])


def _read_tum(path: Path) -> Track:
    """Lines of `stamp x y z qx qy qz qw`."""
    text = path.read_text(encoding='utf-8-sig')
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith('#')]
    return Track([f'{line[0]} s' for line in lines],
                 _to_poses([[line[i] for i in (1, 2, 3, 7, 4, 5, 6)] for line in lines]), None)


def _to_poses(rows: list[list[str]]) -> Tensor:
    """Texts of x y z qw qx qy qz -> [N, 4, 4] float64."""
    values = torch.tensor([[float(text) for text in row] for row in rows], dtype=torch.float64).reshape(-1, 7)
    if not torch.isfinite(values).all():
        raise ValueError('a pose holds NaN or infinity')
    return pose(quaternion_to_rotation(values[:, 3:]), values[:, :3])
