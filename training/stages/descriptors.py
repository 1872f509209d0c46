"""The descriptor stage: an extractor learned on the place itself with the neural reprojection error (NRE section 6)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.networks import load_pretrained
from aprloc_ros.networks.extractor import (
    COARSE_STRIDE,
    FINE_STRIDE,
    SIZE_MULTIPLE,
    Extractor,
    build_extractor,
)
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.augmentation import cover, degrade, random_rotations, rotate_views
from aprloc_ros.training.images.relighting import relight
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.loop import Loop, average_buffers, average_gradients, step_generator, warm_cosine
from aprloc_ros.training.stages.nre_loss import pair_loss, sample, to_cells
from aprloc_ros.training.stages.teacher import Teacher

_MIN_COMMON = 24          # points that two views must share to make a pair


@dataclass(frozen=True)
class DescriptorTraining:
    """How an extractor is trained."""

    arguments: dict[str, Any] = field(default_factory=dict)                  # of Extractor
    short_side: int = field(default=240, metadata={'range': (32, 2160)})     # pixels of its images
    steps: int = field(default=2000, metadata={'range': (1, 10_000_000)})
    pairs: int = field(default=1, metadata={'range': (1, 256)})              # of views per step, both directions each
    points: int = field(default=256, metadata={'range': (8, 100_000)})       # common points per pair
    learning_rate: float = field(default=2e-3, metadata={'range': (1e-8, 1.0)})
    weight_decay: float = field(default=1e-4, metadata={'range': (0.0, 1.0)})
    relighting: float = field(default=1.0, metadata={'range': (0.0, 2.0)})   # factor on the logarithms of random light
    blur_px: float = field(default=1.5, metadata={'range': (0.0, 20.0)})     # greatest standard deviation
    noise: float = field(default=0.04, metadata={'range': (0.0, 1.0)})       # greatest standard deviation
    turn_deg: float = field(default=12.0, metadata={'range': (0.0, 45.0)})   # rotation about the camera centre
    cover: float = field(default=0.4, metadata={'range': (0.0, 0.9)})        # greatest share that something hides
    zoom: float = field(default=0.2, metadata={'range': (0.0, 1.0)})         # greatest log of the focal length's factor
    teacher: str = field(default='none', metadata={'choices': ('none', 'xfeat')})   # beside the place itself


def descriptor_camera(camera: Camera, short_side: int) -> Camera:
    """The camera of the extractor's images: about that size, its sides whole multiples of SIZE_MULTIPLE."""
    sized = camera.with_short_side(min(short_side, camera.width, camera.height))
    width, height = (max(SIZE_MULTIPLE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in (sized.width, sized.height))
    return camera.resized(width, height)


@dataclass(frozen=True, eq=False)
class Augmented:
    """How an image differs from the view it is of."""

    view: int
    R_cam_new: Tensor   # [3, 3]
    zoom: float
    clear: Tensor       # [h, w] bool: nothing was put in front


class PairSource:
    """Draws pairs of views that see common points, augmented independently."""

    def __init__(self, views: Views, points: SparsePoints, config: DescriptorTraining, device: torch.device):
        self.config, self.camera, self.images = config, views.camera, views.images
        self.T_cam_map = invert(views.T_map_cam).to(device)
        self.xyz, self.device = points.xyz.to(device), device
        frame, point = points.observations.T
        order = torch.argsort(frame, stable=True)
        self.point_of = point[order]
        counts = torch.bincount(frame, minlength=len(views))
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        self.partners = _partners(frame, point, len(views), len(points.xyz))
        self.targets = torch.tensor([i for i, (others, _) in enumerate(self.partners) if len(others)])
        if not len(self.targets):
            raise AprlocError(f'no two training images share {_MIN_COMMON} points: the capture has too little texture or '
                              'overlap to learn descriptors')

    def points_of(self, view: int) -> Tensor:
        return self.point_of[self.offsets[view]:self.offsets[view + 1]]

    def draw_pairs(self, generator: torch.Generator) -> list[tuple[int, int, Tensor]]:
        """(view, view, common points) for each pair of a step; a partner with many common points is likelier."""
        cpu = torch.Generator().manual_seed(int(torch.randint(2 ** 62, (1,), generator=generator, device=generator.device)))
        pairs = []
        for target in self.targets[torch.randint(len(self.targets), (self.config.pairs,), generator=cpu)].tolist():
            others, shared = self.partners[target]
            source = int(others[torch.multinomial(shared.sqrt(), 1, generator=cpu)])
            both = self.points_of(target)
            both = both[torch.isin(both, self.points_of(source))]
            pairs.append((target, source, both[torch.randperm(len(both), generator=cpu)[:self.config.points]]))
        return pairs

    def augmented(self, views: list[int], generator: torch.Generator) -> tuple[Tensor, list[Augmented]]:
        """Images [B, 3, h, w] in [0, 1] and what was done to each."""
        config, count = self.config, len(views)
        images = self.images[views].to(self.device).float() / 255
        R = random_rotations(count, config.turn_deg, generator)
        u = torch.rand(count, generator=generator, device=self.device).double()
        zoom = torch.exp((2 * u - 1) * config.zoom)
        images = rotate_views(images, self.camera, R, zoom)
        images, clear = cover(images, config.cover, generator)
        done = [Augmented(*each) for each in zip(views, R, zoom.tolist(), clear)]
        return relight(degrade(images, config.blur_px, config.noise, generator), config.relighting, generator), done

    def in_view(self, view: int, points: Tensor) -> Tensor:
        """Points [N] before the camera of an unchanged view, [N, 3]."""
        T = self.T_cam_map[view]
        return self.xyz[points.to(self.device)] @ T[:3, :3].T + T[:3, 3]

    def project(self, image: Augmented, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where the augmented view shows the points: pixels [N, 2], seen [N]."""
        xyz = self.in_view(image.view, points) @ image.R_cam_new
        camera = replace(self.camera, fx=self.camera.fx * image.zoom, fy=self.camera.fy * image.zoom)
        pixels, inside = camera.project(xyz)
        column, row = pixels.round().long().clamp_min(0).T
        return pixels, inside & image.clear[row.clamp_max(camera.height - 1), column.clamp_max(camera.width - 1)]


def _partners(frame: Tensor, point: Tensor, frames: int, points: int) -> list[tuple[Tensor, Tensor]]:
    """For each frame the frames that share at least _MIN_COMMON points with it, and how many they share."""
    seen = torch.zeros(frames, points, dtype=torch.bool)
    seen[frame, point] = True
    seen = seen.float()
    partners = []
    for i in range(frames):
        shared = seen[:, seen[i] > 0].sum(1)
        shared[i] = 0
        others = (shared >= _MIN_COMMON).nonzero()[:, 0]
        partners.append((others, shared[others]))
    return partners


def step_loss(model: Extractor, source: PairSource, generator: torch.Generator, teacher: Teacher | None = None) -> Tensor:
    """The loss of one step's pairs."""
    pairs = source.draw_pairs(generator)
    views = [view for target, other, _ in pairs for view in (target, other)]
    images, augmented = source.augmented(views, generator)
    features = model(images.contiguous(memory_format=torch.channels_last))
    cells, shown = [], []
    for i, (_, _, points) in enumerate(pairs):
        seen = [source.project(image, points) for image in augmented[2 * i:2 * i + 2]]
        both = seen[0][1] & seen[1][1]
        for pixels, _ in seen:
            cells.append((to_cells(pixels[both], COARSE_STRIDE), to_cells(pixels[both], FINE_STRIDE)))
            shown.append(points[both.cpu()])
    kept = [i for i in range(len(cells)) if len(cells[i][0])]
    if not kept:   # a turn that moved every common point out of a view
        return sum(p.sum() for p in model.parameters()) * 0
    loss = pair_loss(features[kept], [cells[i] for i in kept])
    if teacher is None:
        return loss
    return loss + torch.stack([_taught(teacher, source, augmented[i].view, shown[i], sample(features.coarse[i], cells[i][0]))
                               for i in kept]).mean()


def _taught(teacher: Teacher, source: PairSource, view: int, points: Tensor, descriptors: Tensor) -> Tensor:
    """The teacher's loss, mean over the points that the unchanged view shows too."""
    pixels, inside = source.camera.project(source.in_view(view, points))
    return (teacher.loss(view, descriptors, pixels) * inside).sum() / inside.sum().clamp_min(1)


def train_extractor(fabric, views: Views, points: SparsePoints, config: DescriptorTraining, seed: int, directory: Path,
                    imagenet: str = 'none') -> Extractor:
    """Train (or finish training) an extractor; returns it in evaluation mode on the fabric's device.

    views: of the training frames, at descriptor_camera; points: with observations indexed like the views.
    """
    torch.manual_seed(seed)
    model = build_extractor('nre', config.arguments)
    load_pretrained(model.backbone, imagenet)
    model = model.to(fabric.device, memory_format=torch.channels_last)
    source = PairSource(views, points, config, fabric.device)
    teacher = Teacher(model.coarse_head.out_channels, views).to(fabric.device) if config.teacher == 'xfeat' else None
    learned = nn.ModuleDict({'model': model, **({'teacher': teacher} if teacher else {})})
    optimizer = torch.optim.AdamW(learned.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    scheduler = warm_cosine(optimizer, config.steps)
    loop = Loop('descriptors', fabric, directory, config.steps, {**learned, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    model.train()
    for step in loop:
        with fabric.autocast():
            loss = step_loss(model, source, step_generator(fabric, seed, step), teacher)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        average_gradients(fabric, learned.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        loop.log(loss=loss)
    average_buffers(fabric, model)
    return model.eval()


@torch.inference_mode()
def fine_maps(extractor: Extractor, views: Views, batch: int = 8) -> Tensor:
    """Fine descriptor maps of all views, [N, Cf, h / 2, w / 2] in half precision on the CPU: what a field learns."""
    device = next(extractor.parameters()).device
    parts = [extractor((part.to(device).float() / 255).contiguous(memory_format=torch.channels_last)).fine.half().cpu()
             for part in views.images.split(batch)]
    return torch.cat(parts)


if __name__ == '__main__':
    import sys

    from aprloc_ros.cli import main

    sys.exit(main(['build', '--until', 'descriptors', *sys.argv[1:]]))
