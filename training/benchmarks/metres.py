"""Metres, up, north and the robot's frame on the demo's exact drives, as a structure from motion would leave them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.geometry import invert, pose, pose_errors, so3_exp
from aprloc_ros.placement.alignment import align
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu
from aprloc_ros.recordings.trajectory import make_trajectory
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.place.odometry import body_way, drifted
from aprloc_ros.training.place.tags import paste, tag_pose
from aprloc_ros.training.posing.metres.choice import Metres, put_together
from aprloc_ros.training.posing.metres.gps import fixes_at, measure_gps
from aprloc_ros.training.posing.metres.measured import Posed
from aprloc_ros.training.posing.metres.odometry import measure_odometry
from aprloc_ros.training.posing.metres.tags import measure_tags

SEEDS = 10
# A structure from motion: noise of each pose (2 mm an axis: the 0.33 cm RMS that RedKitchen's has), and a slow bend of the way.
_NOISE_M, _NOISE_RAD, _BEND_M, _BEND_S = 0.002, math.radians(0.1), 0.01, 20.0
_MOUNT = torch.tensor([[0, 0, 1, 0.3], [-1, 0, 0, -0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]], dtype=torch.float64)
_TO_SFM = Similarity(0.37, so3_exp(torch.tensor([0.6, -1.0, 0.8], dtype=torch.float64)),
                     torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64), 0.0, '')
_PLACE = GeodeticOrigin(52.52, 13.405, 80.0)
_GPS_M, _GPS_HZ = 1.5, 10.0
_TAG_M, _TAG_AHEAD_M, _TAG_ASIDE_M = 0.16, 1.8, 0.5
_TAG_SEEDS = 5          # images are rendered for each
_TAG_AT = (0.25, 0.7)    # of the drive
_PLANE_M, _PLANE_RAD = 0.05, math.radians(1)


def benchmark_metres(options):
    """Scale, up and north from odometry, tags and GPS, and a map's alignment to a trajectory, on exact poses with noise."""
    print(metres_table(options.data))


def metres_table(capture: Path, seeds: int = SEEDS) -> str:
    """The four cases of a capture of the demo place (aprloc place), each the worst and the median of so many draws of noise.

    Truth: its exact poses. Held-out frames are used as the drive that they are; nothing was chosen on them.
    """
    read = read_capture(capture)
    if read.format != 'transforms' or not read.test:
        raise AprlocError(f'{capture}: not a capture of the demo place; write one with aprloc place {typed(capture)}')
    train, test = _in_time(read.train), _in_time(read.test)
    first = [frame for frame in train if frame.sequence == train[0].sequence]
    rows = ['| case | frames | scale off by, median / worst | its own deviation | up | north or heading | position |',
            '|---|---|---|---|---|---|---|',
            _row('odometry of 2 % drift', len(first), lambda seed: _by_odometry(first, seed), seeds),
            _row('two tags of 16 cm', len(test), lambda seed: _by_tags(test, seed), min(seeds, _TAG_SEEDS)),
            _row('GPS of 1.5 m noise', len(train), lambda seed: _by_gps(train, seed), seeds),
            _aligned('aligned to a trajectory in the plane, 5 cm noise', test, seeds)]
    return '\n'.join(rows)


def _row(name: str, frames: int, measure: Callable[[int], tuple[Metres, bool]], seeds: int) -> str:
    results = [measure(seed) for seed in range(seeds)]
    scales = [100 * abs(math.log(found.change.scale * _TO_SFM.scale)) for found, _ in results]
    ups = [_turn_deg(found.change)[0] for found, _ in results]
    north = [_turn_deg(found.change)[1] for found, is_north in results if is_north]
    own = [100 * found.change.scale_sd for found, _ in results]
    return (f'| {name} | {frames} | {_two(scales, 2)} % | {np.median(own):.2f} % | {_two(ups, 2)}° | '
            f'{_two(north, 2) + "°" if north else "-"} | - |')


def _two(values: list[float], digits: int) -> str:
    return f'{np.median(values):.{digits}f} / {max(values):.{digits}f}'


def _turn_deg(change: Similarity) -> tuple[float, float]:
    """Angle of z against the true up, and of x and y about it against the true ones."""
    R = change.rotation @ _TO_SFM.rotation
    return (math.degrees(math.acos(min(1.0, R[2, 2].item()))),
            abs(math.degrees(math.atan2((R[1, 0] - R[0, 1]).item(), (R[0, 0] + R[1, 1]).item()))))


def _by_odometry(frames: list[Frame], seed: int) -> tuple[Metres, bool]:
    stamps_s, T_world_cam = _exact(frames)
    posed = _posed(frames, seed)
    odometry = drifted(body_way(stamps_s, T_world_cam, _MOUNT), seed)
    return put_together(posed, [measure_odometry(posed, odometry, 'odometry')]), False


def _by_gps(frames: list[Frame], seed: int) -> tuple[Metres, bool]:
    """An antenna at the camera, ten fixes a second."""
    stamps_s, T_world_cam = _exact(frames)
    way = make_trajectory(stamps_s.tolist(), list(T_world_cam))
    when = torch.arange(stamps_s[0], stamps_s[-1], 1 / _GPS_HZ, dtype=torch.float64)
    T, known = way.at(when, 1.0)
    fixes = from_enu(_PLACE, T[known][:, :3, 3] + _GPS_M * _draws(int(known.sum()), 3, seed=seed))
    posed = _posed(frames, seed)
    found = replace(fixes_at(when[known], fixes, posed, 'GPS'), lever_sd_m=0.01)
    return put_together(posed, [measure_gps(found)]), True


def _by_tags(frames: list[Frame], seed: int) -> tuple[Metres, bool]:
    _, T_world_cam = _exact(frames)
    tags = {7 + number: _beside(T_world_cam[int(share * len(frames))], number) for number, share in enumerate(_TAG_AT)}
    noise = np.random.default_rng(seed)

    def read(index: int) -> np.ndarray:
        frame = frames[index]
        image = frame.read_image()
        for number, T_world_tag in tags.items():
            image = paste(image, frame.camera, frame.T_map_cam, T_world_tag, _TAG_M, number)
        return (image + 2 * noise.standard_normal(image.shape)).clip(0, 255).round().astype(np.uint8)

    posed = _posed(frames, seed)
    return put_together(posed, [measure_tags(posed, _TAG_M, read)]), False


def _beside(T_world_cam: Tensor, number: int) -> Tensor:
    """A tag ahead and to the side of a camera, which faces where it comes from."""
    ahead, right = T_world_cam[:3, 2], T_world_cam[:3, 0]
    side = 1 if number % 2 else -1
    centre = T_world_cam[:3, 3] + _TAG_AHEAD_M * ahead + side * _TAG_ASIDE_M * right
    return tag_pose(centre.tolist(), (-ahead[:2] - 0.3 * side * right[:2]).tolist())


def _aligned(name: str, frames: list[Frame], seeds: int) -> str:
    """A map that is upright and in metres, whose frame is another one; the camera's mount is known, as by /tf_static."""
    _, T_world_cam = _exact(frames)
    old = Similarity(1.0, so3_exp(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)), torch.tensor([10.0, -4.0, 0.0], dtype=torch.float64), 0.0, '')
    off_m, off_deg, scales = [], [], []
    for seed in range(seeds):
        T_map_cam = old.apply(_shaken(frames, seed))
        body = T_world_cam @ invert(_MOUNT)
        yaw = torch.atan2(body[:, 1, 0], body[:, 0, 0]) + _PLANE_RAD * _draws(len(body), seed=seed + 500)
        zero = torch.zeros_like(yaw)
        xy = body[:, :2, 3] + _PLANE_M * _draws(len(body), 2, seed=seed + 600)
        plane = pose(so3_exp(torch.stack([zero, zero, yaw], 1)), torch.cat([xy, zero[:, None]], 1))
        moved = align(T_map_cam, plane, invert(_MOUNT), True, 'plane').change
        scales.append(100 * abs(math.log(moved.scale)))
        rigid = align(T_map_cam, plane, invert(_MOUNT), False, 'plane').change.apply(old.apply(T_world_cam))
        off_m.append((rigid[:, :2, 3] - T_world_cam[:, :2, 3]).norm(dim=1).median().item())
        off_deg.append(pose_errors(rigid, T_world_cam)[1].max().item())
    return f'| {name} | {len(frames)} | {_two(scales, 2)} % | - | - | {_two(off_deg, 2)}° | {_two([100 * m for m in off_m], 1)} cm |'


def _in_time(frames: tuple[Frame, ...]) -> list[Frame]:
    return sorted(frames, key=lambda frame: frame.stamp_s)


def _exact(frames: list[Frame]) -> tuple[Tensor, Tensor]:
    return (torch.tensor([frame.stamp_s for frame in frames], dtype=torch.float64),
            torch.stack([frame.T_map_cam for frame in frames]))


def _shaken(frames: list[Frame], seed: int) -> Tensor:
    """The poses [N, 4, 4] with the errors of a structure from motion, in metres."""
    stamps_s, T = _exact(frames)
    phase = 2 * math.pi * torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    bend = _BEND_M * torch.sin(2 * math.pi * stamps_s[:, None] / _BEND_S + phase)
    return pose(T[:, :3, :3] @ so3_exp(_NOISE_RAD * _draws(len(T), 3, seed=seed + 100)),
                T[:, :3, 3] + bend + _NOISE_M * _draws(len(T), 3, seed=seed + 200))


def _posed(frames: list[Frame], seed: int) -> Posed:
    return Posed(tuple(frame.name for frame in frames), tuple(frame.image_path for frame in frames),
                 _TO_SFM.apply(_shaken(frames, seed)), tuple(frame.camera for frame in frames), _exact(frames)[0])


def _draws(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
