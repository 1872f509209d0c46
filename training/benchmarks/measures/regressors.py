"""A map with another regressor than its own, trained as its build would have: on its field and on its capture's frames."""

from dataclasses import replace
from pathlib import Path

from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import ModelSpec
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.images.views import common_camera, load_views
from aprloc_ros.training.own_frames import own_frames
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.stages.loop import make_fabric
from aprloc_ros.training.stages.regressor import predict_poses, train_regressor


def with_regressor(bundle: MapBundle, data: Path, config: Path, directory: Path, device: str, imagenet: str = 'none') -> MapBundle:
    """The map with the regressor of a build's settings `config`; directory keeps what is trained, imagenet is as of a build.

    Raises AprlocError for a capture that did not build the map, and for settings of its own kind of regressor.
    """
    m, settings = bundle.manifest, load_preset('small', config).regressor
    if settings.kind == 'coordinates':
        raise AprlocError(f'{config}: regressor.kind is coordinates; it must be dfnet or posenet, which need no descriptors of their own')
    fit, calibration, _ = own_frames(m, data)
    views, validation = (load_views(frames, common_camera(fit, settings.short_side)) for frames in (fit, calibration))
    renderer = Renderer(bundle.field, m.scene, views.camera, settings.synthetic_short_side)
    directory.mkdir(parents=True, exist_ok=True)
    regressor = train_regressor(make_fabric(device), views, validation, renderer, settings, 0, directory, imagenet).requires_grad_(False)
    predicted = predict_poses(regressor, validation.images, m.scene, next(regressor.parameters()).device)
    return replace(bundle, regressor=regressor, manifest=replace(
        m, camera=views.camera, regressor=ModelSpec(settings.kind, dict(settings.arguments)),
        covariance=prior_covariance(residuals(predicted, validation.T_map_cam))))
