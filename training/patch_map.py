"""Patches for a map that was built before there were any: `python -m aprloc_ros.training.patch_map NAME --data PATH`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from aprloc_ros.catalogue import find_map
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import distances
from aprloc_ros.map_bundle import load_map, save_map
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.presets import PRESETS
from aprloc_ros.training.resumption import claim
from aprloc_ros.training.stages.patches import build_patches

_SAME = 1e-5   # of poses, relative: maps kept their views' in single precision once


def patch_map(directory: Path, data: Path) -> int:
    """Give a map the patches that its build would give it now; returns how many.

    Gates and covariances stay those of the map without: calibrate it again. Raises AprlocError for another capture than
    the one that the map was built from, and for a map without points.
    """
    claim(directory)
    bundle, capture = load_map(directory, 'cpu'), read_capture(data)
    if bundle.points is None:
        raise AprlocError(f'the map {bundle.manifest.name} has no descriptors, whose points patches lie on; rebuild it with '
                          'aprloc build')
    fit, _ = calibration_split(capture.train, capture.name)
    views, poses = bundle.points.view_poses, torch.stack([frame.T_map_cam for frame in fit])
    if (distances(views.flatten(1), poses.flatten(1)).amin(1) > _SAME * (1 + views.flatten(1).norm(dim=1))).any():
        raise AprlocError(f'{data}: not the capture that the map {bundle.manifest.name} was built from, which its patches '
                          'are cut from: it has other poses')
    patches = build_patches(bundle.points, with_lenses(fit, bundle.manifest.lenses),
                            PRESETS[bundle.manifest.build.preset].map_patches)
    save_map(directory, bundle.manifest, bundle.regressor, bundle.field, bundle.extractor,
             replace(bundle.points, patches=patches), {path.name: path.read_bytes() for path in directory.glob('*.csv')})
    return len(patches)


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m aprloc_ros.training.patch_map', description=__doc__)
    parser.add_argument('name')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH', help='the capture that the map was built from')
    parser.add_argument('--map-dir', type=Path, metavar='DIR', help='where else to look for the map')
    options = parser.parse_args()
    try:
        directory = find_map(options.name, options.map_dir)
        count = patch_map(directory, options.data)
    except AprlocError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{directory}: {count} patches; now calibrate it again: aprloc calibrate {options.name} --data SECOND_DRIVE')
    return 0


if __name__ == '__main__':
    sys.exit(main())
