"""Teaching a regressor that has been trained with images that have no poses, or poses that somebody else found."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from aprloc_ros.networks import CoordinateRegressor, freeze_batch_norm, to_T
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.augmentation import jitter_colours, random_rotations, rotate_views
from aprloc_ros.training.images.synthesis import Renderer, random_poses
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.loop import Loop, average_gradients, draw, step_generator, warm_cosine
from aprloc_ros.training.stages.losses import pose_loss
from aprloc_ros.training.stages.matching import Matching


@dataclass(frozen=True)
class AdaptationTraining:
    """How a drive teaches; for so many steps, however long it is.

    An image whose pose is known costs pose_weight L_gt + matching_weight L_match, another one L_match: lambda_2 and lambda_1
    of Direct-PoseNet Eq. 3 and its section 3.3. Without matching the pose is all.
    """

    steps: int = field(default=200, metadata={'range': (1, 10_000_000)})
    batch: int = field(default=1, metadata={'range': (1, 1024)})
    learning_rate: float = field(default=1e-5, metadata={'range': (1e-8, 1.0)})
    short_side: int = field(default=60, metadata={'range': (8, 1080)})             # pixels of what is rendered to be matched
    pose_weight: float = field(default=0.7, metadata={'range': (0.0, 100.0)})
    matching_weight: float = field(default=0.3, metadata={'range': (0.0, 100.0)})
    turn_deg: float = field(default=0.0, metadata={'range': (0.0, 45.0)})          # about the camera centre, where nothing is matched
    colour_jitter: float = field(default=0.0, metadata={'range': (0.0, 5.0)})
    rehearsed: int = field(default=0, metadata={'range': (0, 100_000)})            # views that the field renders, so that nothing is forgotten
    rehearsal_translation: float = field(default=0.3, metadata={'range': (0.0, 10.0)})   # of these from the map's, in pose units
    rehearsal_rotation_deg: float = field(default=10.0, metadata={'range': (0.0, 180.0)})


# The papers' settings, but few steps: a drive is to teach in minutes. What is known of poses bears ten times the rate; at a hundred
# times a regressor of coordinates is lost (the demo's).
METHODS = {
    'photometric': AdaptationTraining(),
    'feature': AdaptationTraining(),
    'descriptors': AdaptationTraining(),
    'pseudo': AdaptationTraining(batch=4, learning_rate=1e-4, turn_deg=6.0, colour_jitter=1.0, rehearsed=200)}


@dataclass(frozen=True, eq=False)
class Material:
    """What a regressor is taught with."""

    views: Views               # of the regressor's camera; the poses of those that are not labelled mean nothing
    labelled: Tensor           # [N] bool
    matching: Matching | None = None
    rehearsal: Views | None = None   # renderings of the place with their poses


def adapt_regressor(fabric, regressor: nn.Module, material: Material, scene: SceneNormalisation, config: AdaptationTraining,
                    seed: int, directory: Path) -> nn.Module:
    """A copy of the regressor that was taught (or went on being taught) so, in evaluation mode; the regressor stays as it is.

    Batch normalisation is frozen (Direct-PoseNet section 4.1). A step whose gradient is not finite is left out.
    """
    model = copy.deepcopy(regressor).to(fabric.device).requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    scheduler = warm_cosine(optimizer, config.steps)
    loop = Loop('adaptation', fabric, directory, config.steps, {'model': model, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    for step in loop:
        freeze_batch_norm(model.train())
        loss, parts = adaptation_loss(model, material, scene, config, step_generator(fabric, seed, step), fabric.autocast)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        average_gradients(fabric, model.parameters())
        if all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None):
            optimizer.step()
        scheduler.step()
        loop.log(loss=loss, **parts)
    return model.eval().requires_grad_(False)


def adaptation_loss(model: nn.Module, material: Material, scene: SceneNormalisation, config: AdaptationTraining,
                    generator: torch.Generator, autocast) -> tuple[Tensor, dict[str, Tensor]]:
    """Of one batch of the drive and, where there is some, one of the rehearsal; and its parts."""
    pick = draw(len(material.views), config.batch, generator)
    images, poses = _batch(material.views, pick, scene, config, generator, augmented=material.matching is None)
    labelled = material.labelled[pick.cpu()]
    batches = [images]
    if material.rehearsal is not None:
        rehearsed, rehearsed_poses = _batch(material.rehearsal, draw(len(material.rehearsal), config.batch, generator), scene,
                                            config, generator, augmented=True)
        batches.append(rehearsed)
    with autocast():
        predicted = model(torch.cat(batches))
    raw, parts = predicted[:config.batch].float(), {}
    loss = raw.new_zeros(())
    if material.matching is not None:
        weights = torch.where(labelled, config.matching_weight, 1.0)
        parts['matching'] = _matched(material.matching, pick, scene.pose_to_map(to_T(raw)), weights)
        loss = loss + parts['matching']
    if labelled.any():
        share = labelled.double().mean().item() * (1.0 if material.matching is None else config.pose_weight)
        parts['pose'] = pose_loss(_judged(model, raw)[labelled], poses[labelled])
        loss = loss + share * parts['pose']
    if material.rehearsal is not None:
        parts['rehearsal'] = pose_loss(_judged(model, predicted[config.batch:].float()), rehearsed_poses)
        loss = loss + parts['rehearsal']
    return loss, parts


def _judged(model: nn.Module, raw: Tensor) -> Tensor:
    """Raw poses [B, 3, 4] as the pose loss sees them: by its 3x3 a regressor of coordinates says how sure it is, which is no error."""
    return to_T(raw)[:, :3].to(raw) if isinstance(model, CoordinateRegressor) else raw


def _matched(matching: Matching, pick: Tensor, T_map_cam: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the batch."""
    losses = [weight * matching.loss(index, T) for index, T, weight in zip(pick.tolist(), T_map_cam, weights.tolist())]
    return torch.stack(losses).mean()


def _batch(views: Views, pick: Tensor, scene: SceneNormalisation, config: AdaptationTraining, generator: torch.Generator,
           augmented: bool) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] in [0, 1] and their poses [B, 3, 4] in pose units, turned and coloured alike."""
    images = views.images[pick.to(views.images.device)].to(generator.device).float() / 255
    poses = scene.pose_to_scene(views.T_map_cam[pick.cpu()])[:, :3].to(generator.device)
    if augmented and config.turn_deg:
        turn = random_rotations(len(pick), config.turn_deg, generator)
        images = rotate_views(images, views.camera, turn)
        poses = torch.cat([poses[..., :3] @ turn, poses[..., 3:]], -1)
    if augmented and config.colour_jitter:
        images = jitter_colours(images, config.colour_jitter, generator)
    return images, poses.float()


def rehearse(renderer: Renderer, T_map_cam: Tensor, histograms: Tensor, config: AdaptationTraining, seed: int,
             progress=None) -> Views:
    """Random views of the place near the poses [V, 4, 4] (DFNet section 3.3), at the exposures [N, 10] of the drive in turn."""
    generator = torch.Generator().manual_seed(seed)
    reach_m = config.rehearsal_translation * renderer.scene.pose_unit_m
    T = random_poses(T_map_cam, config.rehearsed, reach_m, config.rehearsal_rotation_deg, reach_m, generator)
    exposures = histograms[torch.randint(len(histograms), (config.rehearsed,), generator=generator)]
    return rendered_views(renderer, T, exposures, progress)


def rendered_views(renderer: Renderer, T_map_cam: Tensor, histograms: Tensor, progress=None) -> Views:
    """What the field shows at poses [N, 4, 4] and exposures [N, 10], as images of the regressor's camera."""
    images = renderer.render(T_map_cam, histograms, progress)
    seen = torch.ones(len(images), *images.shape[2:], dtype=torch.bool)
    return Views(renderer.camera, images, seen, histograms, T_map_cam)
