"""`aprloc benchmark warps`: images that no camera sees at once, and what a map says of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import torch
from tqdm import tqdm

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.estimate import WARPED, Estimate
from aprloc_ros.geometry import so3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.training.benchmarks.measures.published import Published
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.hardware import describe_hardware

_Change = Callable[[np.ndarray, Camera], np.ndarray]   # rays [H, W, 2] at z = 1 of the pixels -> those whose light they get


def _turned(turn: tuple[float, float, float], rays: np.ndarray, camera: Camera) -> np.ndarray:
    """A camera that turns by so much, in rad, while it reads its rows, and stands as declared at the middle one."""
    share = (torch.arange(camera.height) - (camera.height - 1) / 2) / camera.height
    turns = so3_exp(share[:, None].double() * torch.tensor(turn, dtype=torch.float64)).numpy()
    seen = np.concatenate([rays, np.ones_like(rays[..., :1])], 2) @ turns.transpose(0, 2, 1)
    return seen[..., :2] / seen[..., 2:]


def _resampled(matrix: Sequence[Sequence[float]], rays: np.ndarray, camera: Camera) -> np.ndarray:
    return rays @ np.array(matrix).T


def _bent(k1: float, rays: np.ndarray, camera: Camera) -> np.ndarray:
    """What a lens with that k1 shows: the inverse of its distortion."""
    ideal = rays
    for _ in range(20):
        ideal = rays / (1 + k1 * (ideal ** 2).sum(2, keepdims=True))
    return ideal


_WARPS: dict[str, _Change] = {
    'as it is': lambda rays, camera: rays,
    **{f'sheared by {share:g}': partial(_resampled, ((1, share), (0, 1))) for share in (0.02, 0.05, 0.15)},
    'rolling shutter, 0.03 rad sideways': partial(_turned, (0, 0.03, 0)), 'rolling shutter, 0.1 rad sideways': partial(_turned, (0, 0.1, 0)),
    'rolling shutter, 0.03 rad up': partial(_turned, (0.03, 0, 0)), 'rolling shutter, 0.1 rad up': partial(_turned, (0.1, 0, 0)),
    'rolling shutter, 0.1 rad about the view': partial(_turned, (0, 0, 0.1)),
    'wider by 1.05': partial(_resampled, ((1 / 1.05, 0), (0, 1))), 'higher by 1.11': partial(_resampled, ((1, 0), (0, 0.9))),
    'higher by 1.33 (16:9 as 4:3)': partial(_resampled, ((1, 0), (0, 0.75))), 'a distortion of k1 -0.15': partial(_bent, -0.15)}


def benchmark_warps(options):
    """Images that are sheared, stretched, read row by row while the camera turns, or bent by an undeclared distortion: how many are
    published, each as if it were the only one and after right ones, and how many of these are beyond five standard deviations.
    """
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    frames = read_capture(options.data).test[::options.every]
    print(f'{options.name}: {len(frames)} held-out frames, on {describe_hardware(resolve_device(options.device))}')
    print('| images | alone: published, beyond 5 sigma, refused as warped | median cm, its standard deviation | after right ones: published, '
          'beyond |\n|' + '---|' * 4)
    for name, change in _WARPS.items():
        images = [(_seen(frame, change), replace(frame.camera, model='pinhole', distortion=())) for frame in frames]
        alone, after = (_estimates(bundle, frames, images, options.device, name, run) for run in (False, True))
        published, beyond, error_m, std_m = _scores(alone, frames)
        warped = sum(estimate.reason == WARPED for estimate in alone)
        later = _scores(after, frames)
        print(f'| {name} | {published}, {beyond}, {warped} | {100 * error_m:.2f}, {100 * std_m:.2f} | {later[0]}, {later[1]} |', flush=True)


def _seen(frame: Frame, change: _Change) -> np.ndarray:
    """The frame's image, rectified, with other light in its pixels."""
    camera = replace(frame.camera, model='pinhole', distortion=())
    image = warp_image(frame.read_image(), frame.camera, camera)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    f, c = (camera.fx, camera.fy), (camera.cx, camera.cy)
    pixels = (change((np.stack([u, v], 2) - c) / f, camera) * f + c).astype(np.float32)
    return cv2.remap(image, pixels, None, cv2.INTER_LINEAR)


def _estimates(bundle: MapBundle, frames: Sequence[Frame], images: Sequence[tuple[np.ndarray, Camera]], device: str, name: str,
               after_right_ones: bool) -> list[Estimate]:
    localizer, found = Localizer(bundle, device), []
    if after_right_ones:
        for frame in frames:
            localizer.localize(_seen(frame, _WARPS['as it is']), images[0][1])
    for image, camera in tqdm(images, desc=name, leave=False, mininterval=2.0):
        if not after_right_ones:
            localizer = Localizer(bundle, device)
        found.append(localizer.localize(image, camera))
    return found


def _scores(estimates: Sequence[Estimate], frames: Sequence[Frame]) -> tuple[int, int, float, float]:
    """Published, beyond five standard deviations, median error and median standard deviation of the published positions, in m."""
    published = Published.of(estimates, frames)
    if not published:
        return 0, 0, float('nan'), float('nan')
    std_m = torch.diagonal(published.covariance, dim1=1, dim2=2)[:, :3].sum(1).sqrt()
    return len(published), published.beyond, published.xi[:, :3].norm(dim=1).median().item(), std_m.median().item()
