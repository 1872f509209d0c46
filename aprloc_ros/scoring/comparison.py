"""A query beside what the map shows at its estimate."""

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.fields.views import render_view
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.viewing.overlay import error_map


def compare_views(bundle: MapBundle, image: np.ndarray, camera: Camera | None, T_map_cam: Tensor,
                  ) -> dict[str, np.ndarray]:
    """Pictures of the map's camera by their titles, each [h, w, 3] uint8 RGB: query, rendering, overlay and error.

    image: [H, W, 3] uint8 RGB; camera: what took it (None: the map's own); T_map_cam: the estimate [4, 4]. In the overlay the query is red, the
    rendering cyan: grey where both agree, coloured fringes where an edge is displaced.
    """
    own = bundle.manifest.camera
    source = bundle.manifest.source(camera, image.shape[1], image.shape[0])
    query = warp_image(np.ascontiguousarray(image), source, own)
    histogram = luminance_histogram(torch.tensor(query).permute(2, 0, 1).float() / 255)
    rgb, _ = render_view(bundle.field, bundle.manifest.scene, own, T_map_cam, histogram)
    rendering = (255 * rgb).round().byte().permute(1, 2, 0).cpu().numpy()
    red, cyan = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (query, rendering))
    return {'query': query, 'rendering at the estimate': rendering,
            'overlay: query red, rendering cyan': np.dstack([red, cyan, cyan]),
            'difference': error_map(query, rendering)}
