"""XFeat's keypoints and matches (Potje et al., CVPR 2024), a baseline that was trained elsewhere."""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from aprloc_ros.training.benchmarks.rivals.feature_map import LocalFeatures
from aprloc_ros.training.images.xfeat import CELL, fitted, load_xfeat
from aprloc_ros.training.stages.nre_loss import sample, to_cells

_APART_PX = 2        # two keypoints are farther apart
_LEAST = 0.05        # probability of a keypoint
_MOST = 4096
_COSINE = 0.82


def pretrained_xfeat() -> LocalFeatures | None:
    """None without the wheel; AprlocError for one of other files than those that were measured."""
    network = load_xfeat()
    return network and LocalFeatures(partial(extract, network), match)


@torch.inference_mode()
def extract(network: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [N, 2] of an image [H, W, 3] uint8 RGB, those most likely and most reliable, and their descriptors [N, 64].

    network: as of load_xfeat.
    """
    height, width = image.shape[:2]
    descriptors, logits, reliability = network(fitted(torch.from_numpy(image).permute(2, 0, 1)[None]))
    likely = F.pixel_shuffle(logits.softmax(1)[:, :-1], CELL)[..., :height, :width]     # [1, 1, H, W]
    is_peak = (likely == F.max_pool2d(likely, 2 * _APART_PX + 1, 1, _APART_PX)) & (likely > _LEAST)
    y, x = torch.nonzero(is_peak[0, 0], as_tuple=True)
    keypoints = torch.stack([x, y], 1).float()
    score = likely[0, 0, y, x] * sample(reliability[0], to_cells(keypoints, CELL))[:, 0]
    keypoints = keypoints[score.argsort(descending=True, stable=True)[:_MOST]]
    return keypoints.double().numpy(), F.normalize(sample(descriptors[0], to_cells(keypoints, CELL)), dim=1).numpy()


def match(query: np.ndarray, known: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each query descriptor the point it matches, or -1: each is the other's nearest, and they are near."""
    if not len(known):
        return np.full(len(query), -1)
    similarity = query @ known.T
    best = similarity.argmax(1)
    rows = np.arange(len(query))
    return np.where((similarity.argmax(0)[best] == rows) & (similarity[rows, best] > _COSINE), points[best], -1)
