"""A map that is built in milliseconds, for tests of what is around it: its networks have random weights."""

import torch

from aprloc_ros.camera import Camera
from aprloc_ros.covariance import floor_covariance
from aprloc_ros.fields import build_field
from aprloc_ros.geometry import se3_exp
from aprloc_ros.manifest import BuildFacts, Manifest, ModelSpec, Provenance
from aprloc_ros.map_bundle import save_map
from aprloc_ros.networks import build_regressor
from aprloc_ros.scene import SceneNormalisation

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
T_MAP_SCENE = se3_exp(torch.tensor([3.0, -1.0, 0.5, 0.2, -0.4, 1.0], dtype=torch.float64))
REGRESSOR = ModelSpec('posenet', {'backbone': 'mobilenet_v2', 'width': 0.25})
FIELD = ModelSpec('nerf', {'bands': 2, 'direction_bands': 1, 'depth': 2, 'width': 16, 'coarse_samples': 8})


def tiny_manifest(name: str = 'tiny') -> Manifest:
    return Manifest(
        name=name, camera=CAMERA,
        scene=SceneNormalisation(T_MAP_SCENE, scene_unit_m=4.0, pose_unit_m=2.0, near_m=0.5, far_m=8.0,
                                 bounds=torch.tensor([[-1.0, -1.0, -0.5], [1.0, 1.0, 0.5]])),
        regressor=REGRESSOR, field=FIELD,
        data=Provenance('transforms', 'court', 20, 5, 'ab' * 32, 0, '0.1.0'),
        accuracy={'median_m': 0.1, 'median_deg': 2.0}, covariance=4 * floor_covariance(),
        build=BuildFacts('small', 1.5, 300.0, '2 cores', torch.__version__))


def tiny_models(seed: int = 0):
    """Regressor and field of the tiny manifest."""
    torch.manual_seed(seed)
    return build_regressor(REGRESSOR.kind, REGRESSOR.arguments), build_field(FIELD.kind, FIELD.arguments)


def save_tiny_map(directory, seed: int = 0):
    """Save a tiny map there, named as the directory; returns its path."""
    return save_map(directory, tiny_manifest(directory.name), *tiny_models(seed))
