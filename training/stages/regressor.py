"""Stage 2: the pose regressor, DFNet with the full loss of DFNet Eq. 5 or a PoseNet."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aprloc_ros.geometry import pose_errors
from aprloc_ros.networks import build_regressor, freeze_batch_norm, load_pretrained, to_T
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.augmentation import jitter_colours, random_rotations, rotate_views
from aprloc_ros.training.images.synthesis import Renderer, nearest_histograms, random_poses
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.loop import (
    Loop,
    average_buffers,
    average_gradients,
    check_length,
    draw,
    step_generator,
    warm_cosine,
)
from aprloc_ros.training.stages.losses import pose_loss, triplet_loss


@dataclass(frozen=True)
class RegressorTraining:
    """How a regressor is trained. Steps are `epochs` passes over the images, or `steps` where given."""

    kind: str = field(default='dfnet', metadata={'choices': ('dfnet', 'posenet', 'coordinates')})
    arguments: dict[str, Any] = field(default_factory=dict)      # of the regressor's class
    short_side: int = field(default=120, metadata={'range': (32, 1080)})     # pixels of the input
    epochs: int = field(default=0, metadata={'range': (0, 100_000)})
    steps: int = field(default=0, metadata={'range': (0, 10_000_000)})
    batch: int = field(default=8, metadata={'range': (1, 1024)})
    learning_rate: float = field(default=1e-3, metadata={'range': (1e-8, 1.0)})
    schedule: str = field(default='cosine', metadata={'choices': ('cosine', 'plateau')})
    patience: int = field(default=0, metadata={'range': (0, 100_000)})      # validations without gain; 0: never stop
    validate_every: int = field(default=200, metadata={'range': (0, 1_000_000)})   # steps; 0: once an epoch
    triplet_weight: float = field(default=1.0, metadata={'range': (0.0, 100.0)})
    triplet_levels: tuple[int, ...] = field(default=(0, 1, 2), metadata={'choices': (0, 1, 2)})
    synthetic_short_side: int = field(default=60, metadata={'range': (16, 1080)})
    rvs_weight: float = field(default=1.0, metadata={'range': (0.0, 100.0)})
    rvs_views: int = field(default=0, metadata={'range': (0, 1_000_000)})   # per refresh; 0: as many as images
    rvs_refresh_epochs: int = field(default=20, metadata={'range': (1, 100_000)})
    rvs_refresh_steps: int = field(default=0, metadata={'range': (0, 10_000_000)})   # in place of epochs where given
    rvs_translation: float = field(default=0.3, metadata={'range': (0.0, 10.0)})   # in pose units
    rvs_nearest: float = field(default=0.3, metadata={'range': (0.0, 10.0)})       # d_max, in pose units
    rvs_rotation_deg: float = field(default=10.0, metadata={'range': (0.0, 180.0)})
    colour_jitter: float = field(default=0.0, metadata={'range': (0.0, 5.0)})
    turn_deg: float = field(default=0.0, metadata={'range': (0.0, 45.0)})   # rotation about the camera centre

    def __post_init__(self):
        check_length(self.steps, self.epochs)

    def epoch_steps(self, images: int) -> int:
        return max(1, images // self.batch)

    def total_steps(self, images: int) -> int:
        return self.steps or self.epochs * self.epoch_steps(images)


class ViewSource:
    """Batches of images with their poses in pose units, augmented alike."""

    def __init__(self, images: Tensor, T_map_cam: Tensor, camera, scene: SceneNormalisation, config: RegressorTraining):
        self.images, self.camera, self.config = images, camera, config
        self.poses = scene.pose_to_scene(T_map_cam)[:, :3].float()

    def batch(self, pick: Tensor, turn: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in [0, 1] and poses [B, 3, 4] of the picked views, turned by R_cam_new [B, 3, 3]."""
        device = generator.device
        images = self.images[pick.to(self.images.device)].to(device).float() / 255
        poses = self.poses[pick.cpu()].to(device)
        if turn is not None:
            images = rotate_views(images, self.camera, turn)
            # In double precision, which autocast leaves alone.
            poses = torch.cat([(poses[..., :3].double() @ turn).float(), poses[..., 3:]], -1)
        if self.config.colour_jitter:
            images = jitter_colours(images, self.config.colour_jitter, generator)
        return images, poses


def dfnet_loss(model: nn.Module, real: ViewSource, synthetic: ViewSource | None, random: ViewSource | None,
               config: RegressorTraining, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 5: half the pose losses on real and rendered images, the triplet loss, and L_RVS. Parts without views drop."""
    def turn():
        return random_rotations(config.batch, config.turn_deg, generator) if config.turn_deg else None
    index, same_turn = draw(len(real.images), config.batch, generator), turn()
    batches = [real.batch(index, same_turn, generator)]
    if synthetic:
        batches.append(synthetic.batch(index, same_turn, generator))
    if random:
        batches.append(random.batch(draw(len(random.images), config.batch, generator), turn(), generator))
    images, poses = (torch.cat(column) for column in zip(*batches))
    with_triplet = bool(synthetic and config.triplet_weight)
    levels = config.triplet_levels if with_triplet else ()
    predicted, features = model.pose_and_features(images, levels, upscale=False) if with_triplet else (model(images), [])
    losses = [pose_loss(p, t) for p, t in zip(predicted.split(config.batch), poses.split(config.batch))]
    parts = {'pose_real': losses[0]}
    loss = losses[0] if not synthetic else (losses[0] + losses[1]) / 2
    if synthetic:
        parts['pose_synthetic'] = losses[1]
    if with_triplet:
        parts['triplet'] = torch.stack([triplet_loss(f[:config.batch], f[config.batch:2 * config.batch])
                                        for f in features]).mean()
        loss = loss + config.triplet_weight * parts['triplet']
    if random:
        parts['rvs'] = losses[-1]
        loss = loss + config.rvs_weight * losses[-1]
    return loss, parts


@torch.inference_mode()
def predict_poses(model: nn.Module, images: Tensor, scene: SceneNormalisation, device: torch.device) -> Tensor:
    """Poses that a regressor gives [N, 3, H, W] uint8 images: [N, 4, 4] float64, metres in the map."""
    model.eval()
    raw = [model(part.to(device).float() / 255).float().cpu() for part in images.split(32)]
    return scene.pose_to_map(to_T(torch.cat(raw)))


def train_regressor(fabric, views: Views, validation: Views, renderer: Renderer, config: RegressorTraining, seed: int,
                    directory: Path, imagenet: str = 'none') -> nn.Module:
    """Train (or finish training) a regressor; returns the best on the validation views, in evaluation mode."""
    torch.manual_seed(seed)
    model = build_regressor(config.kind, config.arguments)
    # Direct-PoseNet section 4.1: a pretrained PoseNet keeps its batch normalisation frozen.
    frozen = load_pretrained(model.backbone, imagenet) and config.kind == 'posenet'
    model = model.to(fabric.device, memory_format=torch.channels_last)
    steps = config.total_steps(len(views))
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    scheduler = _scheduler(optimizer, config, steps)
    memory = {'best': None, 'best_score': float('inf'), 'waited': 0, 'random_images': None, 'random_poses': None,
              'synthetic_images': None}
    loop = Loop('regressor', fabric, directory, steps,
                {'model': model, 'optimizer': optimizer, 'scheduler': scheduler}, memory)
    scene, camera = renderer.scene, views.camera
    uses_synthetic = config.kind == 'dfnet'
    if uses_synthetic and memory['synthetic_images'] is None:
        memory['synthetic_images'] = _render(fabric, renderer, views.T_map_cam, views.histograms, 'views of real poses')
    real = ViewSource(views.images, views.T_map_cam, camera, scene, config)
    synthetic = ViewSource(memory['synthetic_images'], views.T_map_cam, camera, scene, config) if uses_synthetic else None
    random = _random_source(memory, camera, scene, config)
    refresh_every = config.rvs_refresh_steps or config.rvs_refresh_epochs * config.epoch_steps(len(views))
    validate_every = config.validate_every or config.epoch_steps(len(views))
    for step in loop:
        if uses_synthetic and config.rvs_weight and step % refresh_every == 0:
            _refresh_random(fabric, memory, renderer, views, config, seed, step)
            random = _random_source(memory, camera, scene, config)
        model.train()
        if frozen:
            freeze_batch_norm(model.backbone)
        with fabric.autocast():
            loss, parts = dfnet_loss(model, real, synthetic, random, config, step_generator(fabric, seed, step))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        average_gradients(fabric, model.parameters())
        optimizer.step()
        if config.schedule == 'cosine':
            scheduler.step()
        loop.log(loss=loss, **parts)
        if (step + 1) % validate_every == 0 or step + 1 == steps:
            _validate(fabric, loop, model, validation, scene, scheduler, config, memory)
    model.load_state_dict(memory['best'])
    return model.eval()


def _scheduler(optimizer, config: RegressorTraining, steps: int):
    if config.schedule == 'plateau':
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.95, patience=50)
    return warm_cosine(optimizer, steps)


def _render(fabric, renderer: Renderer, T_map_cam: Tensor, histograms: Tensor, what: str) -> Tensor:
    with tqdm(total=len(T_map_cam), desc=f'rendering {what}', disable=bool(fabric.global_rank), leave=False,
              mininterval=2.0) as bar:
        return renderer.render(T_map_cam, histograms, bar.update)


def _refresh_random(fabric, memory: dict, renderer: Renderer, views: Views, config: RegressorTraining, seed: int,
                    step: int):
    unit_m = renderer.scene.pose_unit_m
    generator = torch.Generator().manual_seed((seed * 7919 + step) * fabric.world_size + fabric.global_rank)
    T = random_poses(views.T_map_cam, config.rvs_views or len(views), config.rvs_translation * unit_m,
                     config.rvs_rotation_deg, config.rvs_nearest * unit_m, generator)
    memory['random_images'] = _render(fabric, renderer, T, nearest_histograms(T, views), 'random views')
    memory['random_poses'] = T


def _random_source(memory: dict, camera, scene, config) -> ViewSource | None:
    if memory['random_images'] is None:
        return None
    return ViewSource(memory['random_images'], memory['random_poses'], camera, scene, config)


def _validate(fabric, loop: Loop, model, validation: Views, scene, scheduler, config, memory: dict):
    """Score on the validation views: the median of the distance, in pose units, plus the angle, in radians.

    Every process acts on the first one's score.
    """
    average_buffers(fabric, model)
    errors_m, errors_deg = pose_errors(predict_poses(model, validation.images, scene, fabric.device),
                                       validation.T_map_cam)
    score = fabric.broadcast((errors_m / scene.pose_unit_m + torch.deg2rad(errors_deg)).median().item())
    loop.log(force=True, validation_m=errors_m.median(), validation_deg=errors_deg.median(), validation_score=score)
    if config.schedule == 'plateau':
        scheduler.step(score)
    if score < memory['best_score']:
        memory['best'] = {key: value.detach().clone() for key, value in model.state_dict().items()}
        memory['best_score'], memory['waited'] = score, 0
        return
    memory['waited'] += 1
    if config.patience and memory['waited'] >= config.patience:
        loop.stop()


if __name__ == '__main__':
    import sys

    from aprloc_ros.cli import main

    sys.exit(main(['build', '--until', 'regressor', *sys.argv[1:]]))
