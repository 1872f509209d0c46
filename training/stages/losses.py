"""The losses that train DFNet."""

import torch
from torch import Tensor
from torch.nn import functional as F

TRIPLET_MARGIN = 1.0


def pose_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean L2 distance of 3x4 poses, ||P - P_hat||_2 (Direct-PoseNet Eq. 4, DFNet Eq. 5). Both [B, 3, 4]."""
    return (predicted - truth).flatten(1).norm(dim=1).mean()


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine at each location, mean over the map (the metric of DFNet Eq. 1). [B, C, H, W] twice -> [B]."""
    return 1 - F.cosine_similarity(a, b, dim=1, eps=1e-6).flatten(1).mean(1)


def triplet_loss(real: Tensor, synthetic: Tensor) -> Tensor:
    """Triplet loss with in-triplet mining (DFNet Eq. 3-4).

    real, synthetic: feature maps [B, C, H, W] of images and of renderings at the same poses. The other pose of an item
    is that of the batch's next item; the hardest of its four negative pairs counts, chosen without a gradient.
    A batch of one has no negative: zero.
    """
    if len(real) < 2:
        return real.sum() * 0
    other_real, other_synthetic = real.roll(-1, 0), synthetic.roll(-1, 0)
    negatives = torch.stack([feature_distance(real, other_real), feature_distance(real, other_synthetic),
                             feature_distance(synthetic, other_real), feature_distance(synthetic, other_synthetic)])
    hardest = negatives.detach().argmin(0, keepdim=True)
    negative = negatives.gather(0, hardest)[0]
    return (feature_distance(real, synthetic) - negative + TRIPLET_MARGIN).clamp_min(0).mean()
