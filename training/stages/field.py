"""Stage 1: the histogram-assisted radiance field (DFNet section 3.2), with depth supervision from sparse points."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aprloc_ros.fields import build_field
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import RayBatch, Rendering, Weights, render_rays
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.loop import Loop, average_gradients, check_length, draw, step_generator
from aprloc_ros.training.stages.quality import field_psnr_db
from aprloc_ros.training.stages.view_rays import ViewRays
from aprloc_ros.training.structure.depths import SparseDepths

_TRANSIENT_SPARSITY = 0.01   # lambda_u of NeRF-W
_PROPOSAL_WEIGHT = 1.0
_VALIDATIONS, _VALIDATION_VIEWS = 10, 4


@dataclass(frozen=True)
class FieldTraining:
    """How a field is trained. Steps are `epochs` passes of one batch of rays per image, or `steps` where given."""

    kind: str = field(default='planes', metadata={'choices': ('planes', 'nerf_hist', 'nerf', 'nefes')})
    arguments: dict[str, Any] = field(default_factory=dict)      # of the field's class
    short_side: int = field(default=120, metadata={'range': (16, 2160)})   # pixels of the training images
    epochs: int = field(default=0, metadata={'range': (0, 100_000)})
    steps: int = field(default=0, metadata={'range': (0, 10_000_000)})
    rays: int = field(default=2048, metadata={'range': (1, 1_000_000)})    # per step
    learning_rate: float = field(default=2e-3, metadata={'range': (1e-8, 1.0)})        # of the networks
    final_learning_rate: float = field(default=2e-4, metadata={'range': (1e-10, 1.0)})   # reached exponentially
    spatial_factor: float = field(default=10.0, metadata={'range': (1e-3, 1e3)})  # times as fast: planes and grids
    depth_rays: int = field(default=512, metadata={'range': (0, 1_000_000)})   # per step, through sparse points
    depth_weight: float = field(default=0.1, metadata={'range': (0.0, 100.0)})  # 0 switches depth supervision off
    transient_from: float = field(default=0.0, metadata={'range': (0.0, 1.0)})  # share of the steps without transients
    coarse_to_fine: float = field(default=0.0, metadata={'range': (0.0, 1.0)})  # share of the steps it takes

    def __post_init__(self):
        check_length(self.steps, self.epochs)

    def total_steps(self, images: int) -> int:
        return self.steps or self.epochs * images


def field_arguments(config: FieldTraining, scene: SceneNormalisation) -> dict:
    """The arguments that build the field: those of the preset, and the bounds that the planes need."""
    derived = {'bounds': scene.bounds.tolist()} if config.kind == 'planes' else {}
    return {**derived, **config.arguments}


class RaySource(ViewRays):
    """Draws training rays: random pixels of random views, and rays through sparse points."""

    def __init__(self, views: Views, scene: SceneNormalisation, depths: SparseDepths, device: torch.device):
        super().__init__(views, scene, device)
        self.depth_frame = depths.frame.to(device)
        self.depth_xyz = scene.points_to_scene(depths.xyz).float().to(device)
        self.depth = (depths.depth_m / scene.scene_unit_m).float().to(device)

    def pixels(self, count: int, generator: torch.Generator) -> tuple[RayBatch, Tensor]:
        """Rays of random pixels and their colours [count, 3]; pixels without data are drawn anew as one that has."""
        height, width = self.views.images.shape[2:]
        view, v, u = (draw(limit, count, generator) for limit in (len(self.views), height, width))
        seen = self.views.seen[view, v, u]
        everyone = torch.arange(count, device=seen.device)
        keep = torch.where(seen, everyone, seen.nonzero()[:1, 0].expand(count) if seen.any() else everyone)
        return self.through(view[keep], v[keep], u[keep])

    def points(self, count: int, generator: torch.Generator) -> tuple[RayBatch, Tensor]:
        """Rays through random sparse points and their depths [count], in scene units."""
        pick = draw(len(self.depth), count, generator)
        frame, depth = self.depth_frame[pick], self.depth[pick]
        directions = (self.depth_xyz[pick] - self.centres[frame]) / depth.unsqueeze(-1)
        return RayBatch(self.centres[frame], directions, self.views.histograms[frame]), depth


def colour_loss(rendering: Rendering, rgb: Tensor) -> Tensor:
    """NeRF-W's negative log-likelihood with transient uncertainty (NeFeS Eq. for L_rgb), and the coarse pass's MSE."""
    squared = (rendering.rgb - rgb).square().sum(-1)
    if rendering.beta is None:
        loss = squared.mean()
    else:
        beta = rendering.beta
        loss = (squared / (2 * beta.square()) + beta.log()).mean()
        loss = loss + _TRANSIENT_SPARSITY * rendering.transient_density.mean()
    if rendering.coarse_rgb is not None:
        loss = loss + 0.5 * (rendering.coarse_rgb - rgb).square().sum(-1).mean()
    return loss


def depth_loss(weights: Weights, depth: Tensor) -> Tensor:
    """Mean distance, relative to the depth, between where a ray's light ends and where its sparse point lies."""
    relative = (weights.middles - depth.unsqueeze(-1)).abs() / depth.unsqueeze(-1)
    return (weights.weights * relative.clamp_max(1)).sum(-1).mean()


def proposal_loss(coarse: Weights, static: Weights) -> Tensor:
    """The coarse weights must cover the fine ones (mip-NeRF 360 Eq. 13): only they receive a gradient."""
    edges, fine = static.edges.detach().contiguous(), static.weights.detach()
    total = torch.cat([torch.zeros_like(coarse.weights[:, :1]), torch.cumsum(coarse.weights, -1)], -1)
    position = torch.searchsorted(coarse.edges.contiguous(), edges, right=True)
    last = coarse.edges.shape[-1] - 1
    lower, upper = (position - 1).clamp(0, last), position.clamp(0, last)
    bound = total.gather(-1, upper[:, 1:]) - total.gather(-1, lower[:, :-1])
    return ((fine - bound).clamp_min(0).square() / (fine + 1e-5)).sum(-1).mean()


def field_loss(model: nn.Module, source: RaySource, config: FieldTraining, scene: SceneNormalisation,
               transient: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Loss of one step and the mean squared colour error."""
    rays, rgb = source.pixels(config.rays, generator)
    rendering = render_rays(model, rays, scene.near, scene.far, transient=transient, generator=generator)
    loss = colour_loss(rendering, rgb)
    learns_proposal = rendering.coarse is not None and rendering.coarse_rgb is None
    if learns_proposal:
        loss = loss + _PROPOSAL_WEIGHT * proposal_loss(rendering.coarse, rendering.static)
    if config.depth_weight and config.depth_rays:
        rays, depth = source.points(config.depth_rays, generator)
        seen = render_rays(model, rays, scene.near, scene.far, generator=generator)
        loss = loss + config.depth_weight * depth_loss(seen.static, depth)
        if seen.coarse is not None:
            loss = loss + config.depth_weight * depth_loss(seen.coarse, depth)
    return loss, (rendering.rgb.detach() - rgb).square().mean()


def parameter_groups(model: Field, learning_rate: float, spatial_factor: float) -> list[dict]:
    """Optimiser groups of all that is not frozen.

    What is stored in space is touched by few rays each and takes larger steps than the networks on it.
    """
    trained, spatial = [p for p in model.parameters() if p.requires_grad], set(model.spatial_parameters())
    groups = [{'params': [p for p in trained if p in spatial], 'lr': learning_rate * spatial_factor},
              {'params': [p for p in trained if p not in spatial], 'lr': learning_rate}]
    return [group for group in groups if group['params']]


def field_optimizer(model: Field, config, steps: int):
    """Optimiser and schedule of a field's training: config has both learning rates and the spatial factor."""
    optimizer = torch.optim.Adam(parameter_groups(model, config.learning_rate, config.spatial_factor), betas=(0.9, 0.99), eps=1e-12)
    decay = (config.final_learning_rate / config.learning_rate) ** (1 / max(1, steps))
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)


def train_field(fabric, views: Views, validation: Views, depths: SparseDepths, scene: SceneNormalisation,
                config: FieldTraining, seed: int, directory: Path) -> Field:
    """Train (or finish training) a field; returns it in evaluation mode on the fabric's device.

    The mean PSNR of a few validation views goes into the curve at fixed shares of the steps.
    """
    torch.manual_seed(seed)
    model = build_field(config.kind, field_arguments(config, scene)).to(fabric.device)
    steps = config.total_steps(len(views))
    optimizer, scheduler = field_optimizer(model, config, steps)
    source = RaySource(views, scene, depths, fabric.device)
    loop = Loop('field', fabric, directory, steps, {'model': model, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    milestones = {round(steps * (i + 1) / _VALIDATIONS) for i in range(_VALIDATIONS)}
    few = validation[evenly(len(validation), _VALIDATION_VIEWS)]
    for step in loop:
        if config.coarse_to_fine:
            model.set_progress(min(1.0, step / (config.coarse_to_fine * steps)))
        with fabric.autocast():
            loss, squared_error = field_loss(model, source, config, scene, step >= config.transient_from * steps,
                                             step_generator(fabric, seed, step))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        average_gradients(fabric, model.parameters())
        optimizer.step()
        scheduler.step()
        loop.log(loss=loss, train_psnr_db=-10 * math.log10(max(1e-10, squared_error.item())))
        if step + 1 in milestones:
            loop.log(force=True, validation_psnr_db=field_psnr_db(model, scene, few))
    model.set_progress(1.0)
    return model.eval()


if __name__ == '__main__':
    import sys

    from aprloc_ros.cli import main

    sys.exit(main(['build', '--until', 'field', *sys.argv[1:]]))
