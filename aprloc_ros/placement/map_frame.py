"""What the numbers of a map's frame mean: their unit, how sure it is, and where on Earth the frame lies."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aprloc_ros.placement.geodesy import GeodeticOrigin
from aprloc_ros.similarity import Similarity

METRE, ARBITRARY = 'metre', 'arbitrary'


@dataclass(frozen=True)
class MapFrame:
    """The default is that of maps whose poses were given in metres."""

    unit: str = field(default=METRE, metadata={'choices': (METRE, ARBITRARY)})
    scale_sd: float = field(default=0.0, metadata={'range': (0.0, 1.0)})   # of log(metres in a unit), where that is the metre
    source: str = 'the poses as they were given'   # what made the unit a metre
    geodetic: GeodeticOrigin | None = None
    scale_about: tuple[float, float, float] = (0.0, 0.0, 0.0)   # what stays where it is whatever the scale: where this was found

    def moved(self, change: Similarity) -> 'MapFrame':
        """Of the map after a change of frame. It lies nowhere on Earth any more: its axes may be any."""
        if change.scale == 1:
            about = change.points(torch.tensor(self.scale_about, dtype=torch.float64))
            return MapFrame(self.unit, self.scale_sd, self.source, scale_about=tuple(about.tolist()))
        return MapFrame(METRE, change.scale_sd, change.source, scale_about=tuple(change.scale_about.tolist()))

    def scale_covariance(self, T_map_cam: Tensor) -> Tensor:
        """What an unsure scale adds to the covariance of a camera's pose [4, 4], in its own axes: [6, 6] float64.

        If a unit of the map is exp(e) metres with e ~ N(0, scale_sd^2), then a camera at p in the map is truly at
        c + exp(e) (p - c), c = scale_about, off by e (p - c) to first order: an error along the line from there, of standard
        deviation scale_sd |p - c|. In the camera's axes it is e R^T (p - c), so that the block of translation grows by
        scale_sd^2 q q^T with q = R^T (p - c). The rotation does not depend on the scale, nor does the way from the camera to
        the robot's base, which is in metres. All poses of a map share the one e: it neither averages out over frames nor shows
        between two of them, which is why a map's own held-out frames are judged without it.
        """
        from_centre = T_map_cam[:3, 3].double() - torch.tensor(self.scale_about, dtype=torch.float64)
        q = T_map_cam[:3, :3].double().T @ from_centre
        covariance = torch.zeros(6, 6, dtype=torch.float64)
        covariance[:3, :3] = self.scale_sd ** 2 * torch.outer(q, q)
        return covariance
