"""The pose at which the map's descriptors differ least from the features under their projections (NRE Eq. 12)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.refinement import levenberg
from aprloc_ros.refinement.feature_grid import FeatureGrid
from aprloc_ros.refinement.lens_evidence import LensEvidence, first_step, lens_evidence
from aprloc_ros.refinement.lens_matches import LensGuess

# Barron's family (CVPR 2019): shape 1 is the smooth form of Huber's loss, -2 Geman and McClure's, which forgets outliers.
LOSSES = {'huber': levenberg.Kernel(shape=1.0), 'barron': levenberg.Kernel(shape=-2.0)}
_ITERATIONS = 30


@dataclass(frozen=True, eq=False)
class Aligned:
    """Where a search ended; on the CPU."""

    T_map_cam: Tensor   # [4, 4] float64
    hessian: Tensor     # [6, 6] float64, of half the robust sum of squared whitened residuals, in xi of T @ exp(xi)
    likeness: Tensor    # [M] cosines of the descriptors and features of the points in view
    iterations: int
    look_at_lens: Callable[[], LensEvidence]

    @cached_property
    def lens(self) -> LensEvidence:
        """What the image says of its camera; sought when somebody asks."""
        return self.look_at_lens()


@torch.no_grad()
def feature_metric(T_map_cam: Tensor, xyz: Tensor, descriptors: Tensor, feature_map: Tensor, camera: Camera,
                   loss: str = 'barron', allows: Callable[[int], bool] = lambda done: done < _ITERATIONS,
                   guess: Callable[[], LensGuess | None] = lambda: None, usual_doubt: float = 0.0) -> Aligned:
    """The search from one pose; it stays where it was if nothing is to be gained.

    T_map_cam [4, 4] where the search begins; xyz [N, 3], descriptors [N, C]; feature_map [C, H, W] of an image of the
    rectified camera, all of unit length; loss: one of LOSSES; allows: whether another iteration may follow that many;
    guess: of what the camera is off by; usual_doubt: of it, up to which it is not asked for.
    """
    if loss not in LOSSES:
        raise AprlocError(f'loss {loss!r} is not one of {", ".join(LOSSES)}')
    channels, height, width = feature_map.shape
    grid = FeatureGrid.of(feature_map, camera.resized(width, height))
    weights = torch.ones(1, len(xyz), dtype=torch.float64, device=xyz.device)

    def residuals_at(grid: FeatureGrid, T: Tensor) -> levenberg.Residuals:
        return grid.residuals(xyz.double()[None], descriptors[None], T.view(1, 4, 4))
    found = levenberg.minimise(T_map_cam.to(weights)[None], lambda T: residuals_at(grid, T), weights, channels,
                               levenberg.LevenbergSettings(kernel=LOSSES[loss], tolerance_m=levenberg.nearness_m(xyz, T_map_cam)), allows)
    hessian, _ = levenberg.normal_equations(found.residuals, weights, found.variance, channels, LOSSES[loss])
    likeness = 1 - found.residuals.squared[found.residuals.seen] / 2

    @torch.no_grad()
    def look_at_lens() -> LensEvidence:
        first = first_step(found.residuals, grid, weights, found.variance, LOSSES[loss])
        return lens_evidence(first, residuals_at, grid, found.T_map_cam[0], weights, found.variance, LOSSES[loss], usual_doubt, guess)
    return Aligned(found.T_map_cam[0].cpu(), hessian[0].cpu(), likeness.cpu(), found.iterations, look_at_lens)
