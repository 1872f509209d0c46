"""One image in, one pose with its covariance out: the composition that the node, the CLI and the tests share."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.device import is_out_of_memory, place, resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import nearest_rotation
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.networks import to_T

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Where the camera is, and how sure that is."""

    T_map_cam: Tensor              # [4, 4] float64, OpenCV camera axes
    covariance: Tensor             # [6, 6] float64 of xi in T_true = T_map_cam @ exp(xi); x y z rx ry rz, m and rad
    status: str                    # 'prior': the regressor's word alone
    score: float                   # 0 to 1, 1 is best: how near the regressed 3x3 is to a rotation
    histogram: Tensor              # [10] float32, luminance of the query as the map's camera sees it
    timings_ms: dict[str, float]   # 'prepare', 'regress', 'total'


class Localizer:
    """Answers one query at a time, in evaluation mode and without gradients: equal images, equal answers."""

    def __init__(self, bundle: MapBundle, device: str = 'auto'):
        self.manifest = bundle.manifest
        self._regressor = bundle.regressor.eval()
        self._device = place(self._regressor, resolve_device(device))

    @property
    def device_name(self) -> str:
        """'cpu' or 'cuda:N'; becomes 'cpu' when CUDA's memory ran out."""
        return str(self._device)

    def localize(self, image: np.ndarray, camera: Camera | None = None) -> Estimate:
        """image: [H, W, 3] uint8 RGB; camera: what took it (None: the map's own, scaled to the image).

        Raises AprlocError for an image that is none, a camera that contradicts it, and an answer that is not finite.
        """
        start = time.perf_counter()
        query = self._prepare(check_image(image), camera)
        prepared = time.perf_counter()
        raw = self._regress(query)
        T_map_cam = self.manifest.scene.pose_to_map(to_T(raw[None])[0])
        end = time.perf_counter()
        timings_ms = {'prepare': 1e3 * (prepared - start), 'regress': 1e3 * (end - prepared), 'total': 1e3 * (end - start)}
        return Estimate(T_map_cam, self.manifest.covariance, 'prior', rotation_score(raw[:, :3]),
                        luminance_histogram(query), timings_ms)

    def _prepare(self, image: np.ndarray, camera: Camera | None) -> Tensor:
        """What the map's camera would have seen: [3, h, w] float32 in [0, 1]."""
        warped = warp_image(image, camera or self._scaled_camera(image), self.manifest.camera)
        return torch.tensor(warped).permute(2, 0, 1).float() / 255

    def _scaled_camera(self, image: np.ndarray) -> Camera:
        own = self.manifest.camera
        height, width = image.shape[:2]
        # The map's size is whole pixels of some original's, so its aspect is known to half a pixel of either side.
        if abs(width * own.height / (height * own.width) - 1) > 1 / min(own.width, own.height):
            raise AprlocError(f'the image is {width}x{height}, not of the aspect of the map\'s camera '
                              f'({own.width}x{own.height}); give the camera that took it')
        return own.resized(width, height)

    def _regress(self, query: Tensor) -> Tensor:
        """[3, h, w] -> the raw pose [3, 4] float64 on the CPU."""
        try:
            with torch.inference_mode():
                return self._regressor(query.to(self._device)[None])[0].double().cpu()
        except RuntimeError as error:
            if self._device.type == 'cpu' or not is_out_of_memory(error):
                raise
        logger.warning('%s is out of memory: continuing on the CPU', self._device)
        self._device = place(self._regressor, torch.device('cpu'))
        return self._regress(query)


def check_image(image: np.ndarray) -> np.ndarray:
    """The image when it is [H, W, 3] uint8 with at least one pixel, contiguous; AprlocError otherwise."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise AprlocError(f'the image must be a uint8 array, not {getattr(image, "dtype", type(image).__name__)}')
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise AprlocError(f'the image must be height x width x 3 (RGB) and not empty, not {"x".join(map(str, image.shape))}')
    return np.ascontiguousarray(image)


def rotation_score(matrix: Tensor) -> float:
    """exp(-|M - R|) with R the rotation nearest to M [3, 3], Frobenius norm: 1 for a rotation."""
    return math.exp(-(matrix - nearest_rotation(matrix)).norm().item())
