"""`aprloc benchmark seasons`: images of another season, of which only the place is known: the same as that of an image of the map."""

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.training.benchmarks.days import first_drive, local_features, methods
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.posing.sources.photos import find_images

_NEAR = 3   # images along the way


def benchmark_seasons(options):
    """Images of the same way as the capture's, and of the same names and places: answered, and by how many images off.

    Where the capture has but a part of the way, the images of the rest are asked too: none of them should be answered.
    """
    bundle, capture = load_map(find_map(options.name, options.map_dir), options.device), read_capture(options.data)
    queries = find_images(options.queries)
    place = {path.name: number for number, path in enumerate(queries)}
    frames = tuple(frame for frame in with_lenses((*capture.train, *capture.test), bundle.manifest.lenses) if frame.image_path.name in place)
    if not frames:
        raise AprlocError(f'{options.queries}: none of its images has the name of one of those of {capture.name}')
    asked = methods(bundle, first_drive(capture, local_features(), options.work), options.device)
    print(f'{options.name}, {len(frames)} images of the way: {len(place)} queries from {options.queries.name}, '
          f'on {describe_hardware(resolve_device(options.device))}')
    print(f'| | answered | within {_NEAR} images | farther off | images off, of the answered |\n|---|---|---|---|---|')
    centres = torch.stack([frame.T_map_cam[:3, 3] for frame in frames])
    shown = [place[frame.image_path.name] for frame in frames]
    for name, ask in asked.items():
        off = []
        for path in tqdm(queries, desc=name, leave=False, mininterval=2.0):
            answer = ask(read_image(path), frames[0].camera)
            if answer is not None:
                off.append(abs(shown[_nearest(centres, answer.T_map_cam)] - place[path.name]))
        near = sum(each <= _NEAR for each in off)
        middle = f'{torch.tensor(off).double().quantile(0.5):.0f}' if off else '-'
        print(f'| {name} | {len(off)} of {len(place)} | {near} | {len(off) - near} | {middle} |', flush=True)


def _nearest(centres: Tensor, T_map_cam: Tensor) -> int:
    return int((centres - T_map_cam[:3, 3]).norm(dim=1).argmin())
