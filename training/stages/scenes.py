"""Trains a network for several places: the trunk's maps of augmented views are kept, and all places are learned together."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from aprloc_ros.networks import load_pretrained
from aprloc_ros.networks.efficientnet import EfficientNetLite0
from aprloc_ros.networks.ms_transformer import MSTransformer
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.augmentation import jitter_colours, random_rotations, rotate_views
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.loop import Loop, average_gradients, draw, step_generator, warm_cosine, write_atomically

_AT_ONCE = 16                  # images through the trunk
_FIRST_WEIGHTS = 0.0, -1.0     # logarithms of the variances of position and orientation


@dataclass(frozen=True)
class SceneTraining:
    """How places are learned; counts are of each place."""

    arguments: dict[str, Any] = field(default_factory=dict)                      # of the network, but its scenes
    looks: int = field(default=1200, metadata={'range': (1, 1_000_000)})         # augmented views that are kept
    batch: int = field(default=6, metadata={'range': (1, 1024)})
    steps: int = field(default=1600, metadata={'range': (1, 10_000_000)})
    learning_rate: float = field(default=1e-3, metadata={'range': (1e-8, 1.0)})
    turn_deg: float = field(default=6.0, metadata={'range': (0.0, 45.0)})        # about the camera centre
    colour_jitter: float = field(default=1.0, metadata={'range': (0.0, 5.0)})


class Looks(NamedTuple):
    """N augmented views of a place as the trunk sees them."""

    fine: Tensor    # [N, C, h, w] half
    deep: Tensor    # [N, C', h', w'] half
    poses: Tensor   # [N, 3, 4], pose units

    def draw(self, count: int, generator: torch.Generator) -> 'Looks':
        rows = draw(len(self.poses), count, generator)
        return Looks(*(each[rows.to(each.device)].to(generator.device).float() for each in self))


class SceneLoss(nn.Module):
    """Distances of positions and of rotations with learned weights, and the cross entropy of the scenes (section 3.2)."""

    def __init__(self):
        super().__init__()
        self.log_variances = nn.Parameter(torch.tensor(_FIRST_WEIGHTS))

    def forward(self, logits: Tensor, poses: Tensor, truth: Tensor, scenes: Tensor) -> dict[str, Tensor]:
        """logits [B, N], poses [B, N, 3, 4] of every scene, truth [B, 3, 4] in the one that is [B]; the loss is 'total'."""
        said = poses[torch.arange(len(scenes), device=scenes.device), scenes]
        position = (said[..., 3] - truth[..., 3]).norm(dim=1).mean()
        orientation = (said[..., :3] - truth[..., :3]).flatten(1).norm(dim=1).mean()
        weighed = torch.stack([position, orientation]) * (-self.log_variances).exp() + self.log_variances
        chosen = F.cross_entropy(logits, scenes)
        return {'position': position, 'orientation': orientation, 'scene': chosen, 'total': weighed.sum() + chosen}


def train_scenes(fabric, looks: list[Looks], config: SceneTraining, seed: int, directory: Path, weights: str = 'imagenet') -> MSTransformer:
    """Train (or finish training) a network on several places; returns it in evaluation mode.

    The trunk keeps its weights, with which the looks were collected: 'imagenet', those of a file, or 'none', random ones.
    """
    torch.manual_seed(seed)
    model, loss = _network(len(looks), config, weights).to(fabric.device), SceneLoss().to(fabric.device)
    learned = [*(p for p in model.parameters() if p.requires_grad), *loss.parameters()]
    optimizer = torch.optim.AdamW(learned, config.learning_rate, weight_decay=1e-4)
    scheduler = warm_cosine(optimizer, config.steps)
    loop = Loop('scenes', fabric, directory, config.steps,
                {'model': model, 'loss': loss, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    index = torch.arange(len(looks), device=fabric.device).repeat_interleave(config.batch)
    for step in loop:
        generator = step_generator(fabric, seed, step)
        fine, deep, truth = (torch.cat(column) for column in zip(*(each.draw(config.batch, generator) for each in looks), strict=True))
        with fabric.autocast():
            logits, poses = model.answer(fine, deep)
        parts = loss(logits.float(), poses.float(), truth, index)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(parts['total'])
        average_gradients(fabric, learned)
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        scheduler.step()
        loop.log(**parts)
    return model.requires_grad_(False)


def _network(scenes: int, config: SceneTraining, weights: str) -> MSTransformer:
    """With the trunk's weights, which stay; in evaluation mode, as nothing in it learns statistics."""
    model, trunk = MSTransformer(scenes, **config.arguments).eval(), EfficientNetLite0()
    load_pretrained(trunk, weights)
    model.trunk.load_state_dict(trunk.features[:len(model.trunk)].state_dict())
    model.trunk.requires_grad_(False)
    return model


def collect_looks(fabric, views: Views, scene: SceneNormalisation, config: SceneTraining, seed: int, cache: Path,
                  weights: str = 'imagenet') -> Looks:
    """All views alike, each turned and coloured differently every time; those of `cache` where it is there."""
    if fabric.global_rank == 0 and not cache.exists():
        write_atomically(cache, list(_look(fabric, views, scene, config, seed, weights)))
    fabric.barrier()
    return Looks(*torch.load(cache, weights_only=True))


@torch.no_grad()
def _look(fabric, views: Views, scene: SceneNormalisation, config: SceneTraining, seed: int, weights: str) -> Looks:
    model = _network(1, config, weights).to(fabric.device)
    generator = torch.Generator(device=fabric.device).manual_seed(seed)
    poses, parts = scene.pose_to_scene(views.T_map_cam)[:, :3], []
    order = torch.arange(config.looks) % len(views)
    for pick in tqdm(order.split(_AT_ONCE), desc='views of a place', leave=False, mininterval=2.0):
        turn = random_rotations(len(pick), config.turn_deg, generator)
        images = rotate_views(views.images[pick].to(fabric.device).float() / 255, views.camera, turn)
        fine, deep = model.look(jitter_colours(images, config.colour_jitter, generator))
        turned = torch.cat([poses[pick][..., :3].to(turn) @ turn, poses[pick][..., 3:].to(turn)], -1)
        parts.append(Looks(fine.half().cpu(), deep.half().cpu(), turned.float().cpu()))
    return Looks(*(torch.cat(column) for column in zip(*parts, strict=True)))
