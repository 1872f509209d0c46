"""The features of a field, from the feature maps of its training images (NeFeS section 3.2, T2 and T3)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.rendering import RayBatch, Rendering, render_rays
from aprloc_ros.fields.views import check_features, render_features
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.field import colour_loss, field_optimizer, proposal_loss
from aprloc_ros.training.stages.loop import Loop, average_buffers, average_gradients, check_length, draw, step_generator
from aprloc_ros.training.stages.view_rays import ViewRays

# Feature maps [N, C, H, W] of the views in order, or what gives those of view indices [B]: [B, C, H, W].
Targets = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeatureTraining:
    """How the features are trained, once density and colour are (T1).

    Steps are `epochs` passes of `images` views a step over all of them, or `steps` where given.
    schedule: 'progressive' has no fusion loss for the first `fusion_from` of the steps (T2), then crops (T3);
    'combined' starts as T3. colour: 'frozen' leaves density and colour as they are; 'trained' goes on with them, as in
    the paper, where features reach what they share with colour but not the density itself.
    """

    schedule: str = field(default='progressive', metadata={'choices': ('progressive', 'combined')})
    colour: str = field(default='frozen', metadata={'choices': ('frozen', 'trained')})
    epochs: int = field(default=0, metadata={'range': (0, 100_000)})       # T2 + T3
    steps: int = field(default=0, metadata={'range': (0, 10_000_000)})
    fusion_from: float = field(default=1 / 3, metadata={'range': (0.0, 1.0)})       # T2 / (T2 + T3)
    feature_weight: float = field(default=0.04, metadata={'range': (0.0, 100.0)})   # lambda_1 of T2
    late_feature_weight: float = field(default=0.02, metadata={'range': (0.0, 100.0)})   # lambda_1 of T3
    fusion_weight: float = field(default=0.02, metadata={'range': (0.0, 100.0)})    # lambda_2
    images: int = field(default=4, metadata={'range': (1, 1024)})          # that a step draws from
    rays: int = field(default=6144, metadata={'range': (1, 1_000_000)})    # of a step in T2
    crops: int = field(default=7, metadata={'range': (1, 1024)})           # N_crop of a step in T3
    crop_side: int = field(default=16, metadata={'range': (1, 512)})       # S, pixels
    learning_rate: float = field(default=2e-3, metadata={'range': (1e-8, 1.0)})        # of the networks
    final_learning_rate: float = field(default=2e-4, metadata={'range': (1e-10, 1.0)})   # reached exponentially
    spatial_factor: float = field(default=10.0, metadata={'range': (1e-3, 1e3)})       # times as fast: planes

    def __post_init__(self):
        check_length(self.steps, self.epochs)

    def total_steps(self, images: int) -> int:
        return self.steps or self.epochs * max(1, images // self.images)

    def weights(self, step: int, steps: int) -> tuple[float, float]:
        """lambda_1 and lambda_2 of Eq. 4 at a step."""
        if self.schedule == 'progressive' and step < self.fusion_from * steps:
            return self.feature_weight, 0.0
        return self.late_feature_weight, self.fusion_weight


@dataclass(frozen=True)
class Pixels:
    """Rays of pixels with what their images show there."""

    rays: RayBatch
    rgb: Tensor        # [R, 3]
    features: Tensor   # [R, C]
    seen: Tensor       # [R] bool: False where there is no data


class PixelSource(ViewRays):
    """Draws single pixels or crops of a few random views."""

    def __init__(self, views: Views, targets: Targets, scene: SceneNormalisation, device: torch.device):
        super().__init__(views, scene, device)
        self.targets = targets

    def maps(self, pick: Tensor) -> Tensor:
        """Feature maps of views [B] -> [B, C, H, W]."""
        if isinstance(self.targets, Tensor):
            return self.targets[pick.to(self.targets.device)].to(pick.device)
        return self.targets(pick).to(pick.device)

    def pixels(self, images: int, count: int, generator: torch.Generator) -> Pixels:
        """`count` pixels of `images` views."""
        height, width = self.views.images.shape[2:]
        slot, v, u = (draw(limit, count, generator) for limit in (images, height, width))
        return self._at(draw(len(self.views), images, generator), slot, v, u)

    def crops(self, images: int, count: int, side: int, generator: torch.Generator) -> Pixels:
        """`count` squares of side x side pixels, in turn of each of `images` views; rays crop by crop, row by row."""
        height, width = self.views.images.shape[2:]
        top, left = (draw(limit - side + 1, count, generator) for limit in (height, width))
        row, column = (grid.flatten() for grid in torch.meshgrid(*[torch.arange(side, device=top.device)] * 2,
                                                                 indexing='ij'))
        slot = (torch.arange(count, device=top.device) % images).repeat_interleave(side * side)
        v, u = ((corner.unsqueeze(1) + offset).flatten() for corner, offset in ((top, row), (left, column)))
        return self._at(draw(len(self.views), images, generator), slot, v, u)

    def _at(self, pick: Tensor, slot: Tensor, v: Tensor, u: Tensor) -> Pixels:
        """Pixels (u, v) of the views pick[slot]; all of [R] but pick."""
        view = pick[slot]
        return Pixels(*self.through(view, v, u), self.maps(pick)[slot, :, v, u].float(), self.views.seen[view, v, u])


def feature_l1(features: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Eq. 6 and 7 as a mean over channels and seen rays. [R, C] twice, [R] bool."""
    return ((features - target).abs().mean(-1) * seen).sum() / seen.sum().clamp_min(1)


def fuse(model: Field, rendering: Rendering, side: int) -> Tensor:
    """Fused features [R, N_f] of rays that are crops of side x side. No gradient goes into the colour (Eq. 3)."""
    def as_crops(values):
        return values.view(-1, side, side, values.shape[-1]).permute(0, 3, 1, 2)
    fused = model.fusion(as_crops(rendering.static_rgb.detach()), as_crops(rendering.features))
    return fused.permute(0, 2, 3, 1).flatten(0, 2)


def train_features(fabric, model: Field, views: Views, targets: Targets, scene: SceneNormalisation,
                   config: FeatureTraining, seed: int, directory: Path) -> Field:
    """Train (or finish training) the features of a field; returns it in evaluation mode on the fabric's device.

    views: of the targets' size, so that a pixel and a cell of its feature map are the same. Raises AprlocError for a
    field without features and for targets of another number of channels or another size.
    """
    model.to(fabric.device).train()
    source = PixelSource(views, targets, scene, fabric.device)
    _check(model, source)
    if config.colour == 'frozen':
        model.requires_grad_(False)
        for parameter in model.feature_parameters():
            parameter.requires_grad_(True)
    steps = config.total_steps(len(views))
    optimizer, scheduler = field_optimizer(model, config, steps)
    parts = {'model': model, 'optimizer': optimizer, 'scheduler': scheduler}
    loop = Loop('features', fabric, directory, steps, parts, {})
    for step in loop:
        with fabric.autocast():
            loss, seen = features_loss(model, source, config, scene, config.weights(step, steps),
                                       step_generator(fabric, seed, step))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        average_gradients(fabric, [p for p in model.parameters() if p.requires_grad])
        optimizer.step()
        scheduler.step()
        loop.log(loss=loss, **seen)
    average_buffers(fabric, model)
    return model.requires_grad_(True).eval()


def features_loss(model: Field, source: PixelSource, config: FeatureTraining, scene: SceneNormalisation,
                  weights: tuple[float, float], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 4 on one step's rays with lambda_1 and lambda_2, and its parts; L_rgb only where colour is trained."""
    height, width = source.views.images.shape[2:]
    side = min(config.crop_side, height, width)
    fuses = model.fusion is not None and weights[1] > 0
    if fuses:
        pixels = source.crops(config.images, config.crops, side, generator)
    else:
        pixels = source.pixels(config.images, config.rays, generator)
    trained = config.colour == 'trained'
    rendering = render_rays(model, pixels.rays, scene.near, scene.far, transient=trained, features=True,
                            generator=generator)
    parts = {'features': feature_l1(rendering.features, pixels.features, pixels.seen)}
    loss = weights[0] * parts['features']
    best = rendering.features
    if fuses:
        best = fuse(model, rendering, side)
        parts['fusion'] = feature_l1(best, pixels.features, pixels.seen)
        loss = loss + weights[1] * parts['fusion']
    if trained and pixels.seen.any():
        parts['colour'] = colour_loss(_only(rendering, pixels.seen), pixels.rgb[pixels.seen])
        loss = loss + parts['colour']
        if rendering.coarse is not None and rendering.coarse_rgb is None:
            loss = loss + proposal_loss(rendering.coarse, rendering.static)
    parts['cosine'] = F.cosine_similarity(best.detach(), pixels.features, dim=-1).mean()
    return loss, parts


def _only(rendering: Rendering, rays: Tensor) -> Rendering:
    """What colour_loss reads, of the rays that are True in [R]."""
    def kept(values):
        return None if values is None else values[rays]
    return replace(rendering, rgb=rendering.rgb[rays], coarse_rgb=kept(rendering.coarse_rgb),
                   beta=kept(rendering.beta), transient_density=kept(rendering.transient_density))


def _check(model: Field, source: PixelSource):
    check_features(model)
    got = tuple(source.maps(torch.zeros(1, dtype=torch.long, device=source.centres.device)).shape[1:])
    height, width = source.views.images.shape[2:]
    if got != (model.feature_channels, height, width):
        raise AprlocError(f'the feature maps are {"x".join(map(str, got))}, they must be {model.feature_channels}x'
                          f'{height}x{width}: set feature_channels of the field, and take views of the maps\' size')


def feature_cosine(model: Field, scene: SceneNormalisation, views: Views, targets: Targets) -> float:
    """Mean cosine between rendered (and fused) and target features over the seen pixels of views."""
    source = PixelSource(views, targets, scene, next(model.parameters()).device)
    total = 0.0
    for i in range(len(views)):
        with torch.inference_mode():
            rendered = render_features(model, scene, views.camera, views.T_map_cam[i], views.histograms[i]).features
            target = source.maps(torch.tensor([i], device=rendered.device))[0].float()
            total += F.cosine_similarity(rendered, target, dim=0)[source.views.seen[i]].mean().item()
    return total / len(views)


if __name__ == '__main__':
    import sys

    from aprloc_ros.cli import main

    sys.exit(main(['build', '--until', 'features', *sys.argv[1:]]))
