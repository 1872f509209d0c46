"""`aprloc benchmark pose_maps`: maps in frames of their own, such as those built from images alone, beside one of given poses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.training.benchmarks.measures.laying import laid_over
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.hardware import describe_hardware

_FEWEST = 10   # answers that lay a map over the truth
_ASKED = 300   # training images that do


def benchmark_pose_maps(options):
    """Held-out images asked of maps that were built from the training images, with their poses or alone.

    Each map is laid over the frame of the capture by its answers to the training images, and sees through its own lens.
    """
    capture = read_capture(options.data)
    print(f'{len(capture.test)} held-out images of {capture.name}, on {describe_hardware(resolve_device(options.device))}')
    print('| map | answered | median | p95 | spread of the training images about their poses |\n|---|---|---|---|---|')
    for name in options.names:
        localizer = Localizer(load_map(find_map(name, options.map_dir), options.device), options.device)
        shown, T_shown = _answered(localizer, capture.train[::max(1, len(capture.train) // _ASKED)])
        if len(shown) < _FEWEST:
            raise AprlocError(f'{name} knows {len(shown)} of the training images of {capture.name} (at least {_FEWEST} lay it over '
                              'their poses): was it built from these images?')
        change = laid_over(shown, T_shown)
        found, true = _answered(localizer, capture.test)
        apart, turned_deg = (errors.square().mean().sqrt().item() for errors in pose_errors(change.apply(shown), T_shown))
        print(f'| {name} | {len(found)} of {len(capture.test)} | {_quantile(change.apply(found), true, 0.5)} '
              f'| {_quantile(change.apply(found), true, 0.95)} | {apart:.4f} / {turned_deg:.2f} deg |', flush=True)


def _answered(localizer: Localizer, frames: Sequence[Frame]) -> tuple[Tensor, Tensor]:
    """Answers that the map believes, and the true poses of these images: [N, 4, 4] each."""
    asked = [(localizer.localize(frame.read_image(), None), frame.T_map_cam)
             for frame in tqdm(frames, desc='asking', leave=False, mininterval=2.0)]
    believed = [(estimate.T_map_cam, T) for estimate, T in asked if estimate.status == 'refined']
    return tuple(torch.stack(column) for column in zip(*believed)) if believed else (torch.zeros(0, 4, 4, dtype=torch.float64),) * 2


def _quantile(found: Tensor, true: Tensor, share: float) -> str:
    if not len(found):
        return '-'
    apart, turned_deg = (errors.quantile(share).item() for errors in pose_errors(found, true))
    return f'{apart:.4f} / {turned_deg:.2f} deg'
