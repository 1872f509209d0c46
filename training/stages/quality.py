"""How good a field is."""

import math

from torch import Tensor, nn

from aprloc_ros.fields.views import render_view
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views


def psnr_db(image: Tensor, truth: Tensor, seen: Tensor) -> float:
    """Peak signal-to-noise ratio over the seen pixels. [3, H, W] in [0, 1] twice, [H, W] bool."""
    return -10 * math.log10((image - truth).square()[:, seen].mean().clamp_min(1e-10).item())


def field_psnr_db(field: nn.Module, scene: SceneNormalisation, views: Views,
                  histogram: Tensor | None = None) -> float:
    """Mean PSNR of rendered views against their images.

    Each is rendered at the exposure of its own histogram, or all at the one that is given, [10].
    """
    total = 0.0
    for i in range(len(views)):
        own = views.histograms[i] if histogram is None else histogram
        rgb, _ = render_view(field, scene, views.camera, views.T_map_cam[i], own)
        total += psnr_db(rgb.cpu(), views.images[i].float() / 255, views.seen[i])
    return total / len(views)
