"""`aprloc benchmark camera`: cameras that are declared in another mode than they are in, and what a map says of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.catalogue import find_map
from aprloc_ros.estimate import OTHER_CAMERA, Estimate
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.training.benchmarks.measures.damages import damages
from aprloc_ros.training.benchmarks.measures.published import Published
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.presets import PRESETS

_RIGHT_FRAMES = 10_000   # at least
_MOST_NOISE = 8.0      # standard deviation, of 255


def _modes(camera: Camera) -> dict[str, Camera]:
    """Right, and wrong in ways that drivers and users are."""
    def zoomed(factor: float) -> Camera:
        return replace(camera, fx=factor * camera.fx, fy=factor * camera.fy)
    return {'as it is': camera, **{f'focal length x {factor:g}': zoomed(factor) for factor in (0.99, 0.98, 1.05, 0.9, 1.3)},
            'centre 3 % of the width to the right': replace(camera, cx=camera.cx + 0.03 * camera.width),
            'centre 3 % of the height up': replace(camera, cy=camera.cy - 0.03 * camera.height)}


def benchmark_camera(options):
    """Declared cameras of another mode: how many images until it is noticed, what is said, what is published before. And images that
    change their mode on the way while what is declared stays.
    """
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    frames = read_capture(options.data).test[::options.every]
    print(f'{options.name}: {len(frames)} held-out frames, in their order, and each as if it were the only one')
    print('| declared | refused, of all | from frame | alone: refused | published, beyond 5 sigma: in order; alone | in the end it says '
          '| images that change to it: refused from, published, beyond |\n|' + '---|' * 7)
    for name in _modes(frames[0].camera):
        run, alone = (_estimates(bundle, frames, name, options.device, forget) for forget in (False, True))
        refused = [estimate.reason == OTHER_CAMERA for estimate in run]
        changed = _changed(bundle, frames, name, options.device)
        turned = next((str(i) for i, e in enumerate(changed, 1) if e.reason == OTHER_CAMERA), '-')
        said = next((e.text.split(':')[0] for e in reversed(run) if e.reason == OTHER_CAMERA), '-')
        print(f'| {name} | {_share(refused)} | {refused.index(True) + 1 if any(refused) else "-"} '
              f'| {_share([e.reason == OTHER_CAMERA for e in alone])} | {_beyond(run, frames)}; {_beyond(alone, frames)} | {said} '
              f'| {turned}; {_beyond(changed, frames)} |', flush=True)
    _right_cameras(bundle, frames, options.device)


def _right_cameras(bundle: MapBundle, frames: Sequence[Frame], device: str):
    """The camera is as declared, the images are not as they were: one drive after another, each frame damaged by chance."""
    generator = torch.Generator().manual_seed(0)
    by_name = list(damages(PRESETS[bundle.manifest.build.preset].descriptors.blur_px).values())
    estimates, seen = [], list(frames) * math.ceil(_RIGHT_FRAMES / len(frames))
    localizer = Localizer(bundle, device)
    for frame in tqdm(seen, desc='right cameras', leave=False, mininterval=2.0):
        damage = by_name[int(torch.randint(len(by_name), (1,), generator=generator))]
        damaged = torch.from_numpy(damage(frame.read_image(), generator).copy())
        noise = torch.rand(1, generator=generator) * _MOST_NOISE * torch.randn(damaged.shape, generator=generator)
        estimates.append(localizer.localize((damaged + noise).round().clamp(0, 255).byte().numpy(), frame.camera))
    refused = sum(estimate.reason == OTHER_CAMERA for estimate in estimates)
    print(f'\nright cameras, images with blur, noise, other exposure and covered parts by chance: {refused} of {len(seen)} '
          f'refused; published, beyond 5 sigma: {_beyond(estimates, seen)}')


def _estimates(bundle: MapBundle, frames: Sequence[Frame], mode: str, device: str, forget: bool) -> list[Estimate]:
    localizer = Localizer(bundle, device)
    found = []
    for frame in tqdm(frames, desc=mode, leave=False, mininterval=2.0):
        if forget:
            localizer = Localizer(bundle, device)
        found.append(localizer.localize(frame.read_image(), _modes(frame.camera)[mode]))
    return found


def _changed(bundle: MapBundle, frames: Sequence[Frame], mode: str, device: str) -> list[Estimate]:
    """Of the frames as the camera in that mode would have seen them, after all of them as they are; what is declared stays."""
    localizer, found = Localizer(bundle, device), []
    for name in ('as it is', mode):
        for frame in tqdm(frames, desc=f'{mode}, after right ones', leave=False, mininterval=2.0):
            declared = replace(frame.camera, model='pinhole', distortion=())
            seen = warp_image(frame.read_image(), frame.camera, _modes(declared)[name])
            found.append(localizer.localize(seen, declared))
    return found[len(frames):]


def _share(these: list[bool]) -> str:
    return f'{sum(these) / len(these):.0%}'


def _beyond(estimates: list[Estimate], frames: Sequence[Frame]) -> str:
    """Published poses, and how many of them are farther off than their covariance allows."""
    published = Published.of(estimates, frames)
    return f'{published.beyond} of {len(published)}' if published else '0'
