"""`aprloc benchmark exposure`: what it is worth to tell the field an image's histogram."""

import torch

from aprloc_ros.catalogue import find_map
from aprloc_ros.map_bundle import load_map
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.views import load_views, with_lenses
from aprloc_ros.training.stages.quality import field_psnr_db

_MOST_VIEWS = 30


def benchmark_exposure(options):
    """PSNR of images that trained nothing: at each image's own histogram, and at the first drive's mean for all."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    capture, camera = read_capture(options.data), bundle.manifest.camera
    train, test = (with_lenses(frames, bundle.manifest.lenses) for frames in (capture.train, capture.test))
    _, calibration = calibration_split(train, capture.name)
    drives = {frame.sequence: [f for f in calibration if f.sequence == frame.sequence] for frame in calibration}
    first = tuple(frame for frame in train if frame.sequence == train[0].sequence)
    fixed = load_views(first, camera).histograms.mean(0)
    print('| images | own histogram dB | fixed histogram dB | gain dB |\n|---|---|---|---|')
    for name, frames in {**{f'{k}, held-out blocks': v for k, v in drives.items()}, 'held-out drive': test}.items():
        chosen = [frames[i] for i in torch.linspace(0, len(frames) - 1, min(_MOST_VIEWS, len(frames))).long()]
        views = load_views(tuple(chosen), camera)
        own, other = (field_psnr_db(bundle.field, bundle.manifest.scene, views, h) for h in (None, fixed))
        print(f'| {name} ({len(chosen)} of {len(frames)}) | {own:.2f} | {other:.2f} | {own - other:+.2f} |')
