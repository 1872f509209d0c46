"""Volume rendering of a field along rays: hierarchical sampling, static and transient compositing.

Ray directions have z = 1 in the camera, so the ray parameter is the depth along the optical axis, in scene units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aprloc_ros.fields.field import Field

_BACKDROP = 1e10  # length of the last interval: whatever light is left ends there


@dataclass(frozen=True)
class Samples:
    """What a field says at R rays x S points."""

    density: Tensor                    # [R, S] static, per scene unit
    rgb: Tensor | None                 # [R, S, 3] static, in [0, 1]
    transient_density: Tensor | None = None   # [R, S]
    transient_rgb: Tensor | None = None       # [R, S, 3]
    beta: Tensor | None = None                # [R, S] standard deviation of the transient colour
    features: Tensor | None = None            # [R, S, N_f] static


@dataclass(frozen=True)
class Weights:
    """Share of the ray's light per interval."""

    edges: Tensor     # [R, S + 1] interval borders, depth in scene units
    weights: Tensor   # [R, S]

    @property
    def middles(self) -> Tensor:
        return (self.edges[:, 1:] + self.edges[:, :-1]) / 2


@dataclass(frozen=True)
class Rendering:
    """What R rays see. Fields that a call did not ask for, or that a field has not, are None."""

    rgb: Tensor                         # [R, 3]; with transients when the call composited them
    depth: Tensor                       # [R] expected depth of the static scene, scene units
    opacity: Tensor                     # [R] share of the light that ended before the last interval
    static: Weights
    coarse: Weights | None = None
    coarse_rgb: Tensor | None = None    # [R, 3]
    beta: Tensor | None = None          # [R] colour uncertainty, beta_min included
    transient_density: Tensor | None = None   # [R, S]
    static_rgb: Tensor | None = None    # [R, 3] without transients
    features: Tensor | None = None      # [R, N_f] of the static scene, before a fusion network

    @property
    def spread(self) -> Tensor:
        """[R] standard deviation of the depth, scene units."""
        deviation = self.static.middles - self.depth.unsqueeze(-1)
        return (self.static.weights * deviation.square()).sum(-1).clamp_min(1e-12).sqrt()


@dataclass(frozen=True)
class RayBatch:
    """Rays in scene coordinates with the luminance histogram of the image they belong to."""

    origins: Tensor      # [R, 3]
    directions: Tensor   # [R, 3], z = 1 in the camera
    histogram: Tensor    # [R, 10]

    def __getitem__(self, index) -> 'RayBatch':
        return RayBatch(self.origins[index], self.directions[index], self.histogram[index])

    def points(self, depth: Tensor) -> Tensor:
        """depth [R, S] -> [R, S, 3]."""
        return self.origins.unsqueeze(1) + depth.unsqueeze(-1) * self.directions.unsqueeze(1)


def interval_weights(density: Tensor, lengths: Tensor) -> Tensor:
    """Quadrature of the volume rendering integral: density, lengths [R, S] -> weights [R, S]."""
    optical = density * lengths
    return _light(optical) * -torch.expm1(-optical)


def _light(optical: Tensor) -> Tensor:
    """Share of the light that reaches each interval; sums only what lies before it, as the backdrop is huge."""
    before = torch.cumsum(optical[:, :-1], -1)
    return torch.exp(-torch.cat([torch.zeros_like(optical[:, :1]), before], -1))


def uniform_edges(rays: RayBatch, near: float, far: float, count: int, generator: torch.Generator | None) -> Tensor:
    """[R, count + 1] borders between near and far, jittered within half an interval when a generator is given."""
    device = rays.origins.device
    edges = torch.linspace(near, far, count + 1, device=device).expand(len(rays.origins), -1)
    if generator is None:
        return edges
    jitter = torch.rand(edges.shape, generator=generator, device=device) - 0.5
    jitter[:, [0, -1]] = 0
    return edges + jitter * (far - near) / count


def importance_edges(coarse: Weights, count: int, generator: torch.Generator | None) -> Tensor:
    """[R, count + 1] borders drawn from the coarse weights by inverting their distribution."""
    mass = coarse.weights.detach() + 1e-3 / coarse.weights.shape[-1]
    cdf = torch.cumsum(mass / mass.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    u = torch.linspace(0, 1, count + 1, device=cdf.device).expand(len(cdf), -1)
    if generator is not None:
        u = (u + (torch.rand(u.shape, generator=generator, device=cdf.device) - 0.5) / count).clamp(0, 1)
    u = u.contiguous()
    upper = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, upper - 1), cdf.gather(-1, upper)
    start, end = coarse.edges.gather(-1, upper - 1), coarse.edges.gather(-1, upper)
    share = ((u - low) / (high - low).clamp_min(1e-8)).clamp(0, 1)
    return start + share * (end - start)


def _lengths(edges: Tensor, rays: RayBatch) -> Tensor:
    lengths = (edges[:, 1:] - edges[:, :-1]) * rays.directions.norm(dim=-1, keepdim=True)
    return torch.cat([lengths[:, :-1], torch.full_like(lengths[:, -1:], _BACKDROP)], -1)


def render_rays(field: Field, rays: RayBatch, near: float, far: float, *, transient: bool = False,
                features: bool = False, generator: torch.Generator | None = None) -> Rendering:
    """Colour, depth and opacity of rays through a field (NeRF; NeRF-W's static and transient heads).

    transient: composite the transient head as in training; views for localisation are rendered without it.
    features: render them too (NeFeS Eq. 2). In training mode they do not move the density: their weights are detached.
    generator: stratified sampling for training; without one the samples are fixed.
    """
    coarse_edges = uniform_edges(rays, near, far, field.coarse_samples, generator)
    coarse = coarse_rgb = None
    edges = coarse_edges
    if field.fine_samples:
        points = rays.points((coarse_edges[:, 1:] + coarse_edges[:, :-1]) / 2)
        samples = field.coarse(points, rays.directions, rays.histogram)
        coarse = Weights(coarse_edges, interval_weights(samples.density, _lengths(coarse_edges, rays)))
        if samples.rgb is not None:
            coarse_rgb = _exposed(field, _integrate(coarse.weights, samples.rgb), rays)
        edges = importance_edges(coarse, field.fine_samples, generator)
        if field.reuses_coarse_samples:
            edges = torch.cat([coarse_edges, edges], -1).sort(-1).values
    samples = field.fine(rays.points((edges[:, 1:] + edges[:, :-1]) / 2), rays.directions, rays.histogram,
                         transient=transient, features=features)
    return _composite(field, rays, edges, samples, coarse, coarse_rgb)


def _composite(field: Field, rays, edges, samples: Samples, coarse, coarse_rgb) -> Rendering:
    lengths = _lengths(edges, rays)
    static = Weights(edges, interval_weights(samples.density, lengths))
    rgb = static_rgb = _exposed(field, _integrate(static.weights, samples.rgb), rays)
    features = beta = None
    if samples.features is not None:
        features = _integrate(static.weights.detach() if field.training else static.weights, samples.features)
    if samples.transient_density is not None:
        # NeRF-W section 4.2: both heads dim what lies behind; the variance is rendered with transient densities alone.
        optical_static, optical_transient = samples.density * lengths, samples.transient_density * lengths
        light = _light(optical_static + optical_transient)
        rgb = (_integrate(light * -torch.expm1(-optical_static), samples.rgb)
               + _integrate(light * -torch.expm1(-optical_transient), samples.transient_rgb))
        rgb = _exposed(field, rgb, rays)
        beta = field.beta_min + (interval_weights(samples.transient_density, lengths) * samples.beta).sum(-1)
    return Rendering(rgb, (static.weights * static.middles).sum(-1), static.weights[:, :-1].sum(-1), static, coarse,
                     coarse_rgb, beta, samples.transient_density, static_rgb, features)


def _integrate(weights: Tensor, values: Tensor) -> Tensor:
    """[R, S], [R, S, C] -> [R, C]."""
    return (weights.unsqueeze(-1) * values).sum(1)


def _exposed(field: Field, rgb: Tensor, rays: RayBatch) -> Tensor:
    return rgb if field.act is None else field.act(rgb, rays.histogram)
