"""Stage 2 for a regressor of kind `coordinates`: where in the place each cell of the descriptors' maps looks."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from aprloc_ros.geometry import invert, pose, pose_errors
from aprloc_ros.networks import build_regressor
from aprloc_ros.networks.coordinates import CoordinateRegressor, Coordinates, cell_centres, cell_inputs
from aprloc_ros.networks.extractor import COARSE_STRIDE, Extractor
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.descriptors import Augmented, DescriptorTraining, PairSource
from aprloc_ros.training.stages.loop import Loop, average_gradients, draw, step_generator, warm_cosine
from aprloc_ros.training.stages.nre_loss import sample, to_cells
from aprloc_ros.training.stages.points import build_points
from aprloc_ros.training.stages.regressor import RegressorTraining, predict_poses

_AT_ONCE = 8             # images through the extractor
_ZOOM = 0.4              # greatest log of the focal length's factor: quick refiners look at smaller images
_TRACKED, _ANY = 192, 64   # cells kept per image: with a tracked point, and at random
_SOFT = 1.25             # cells: errors up to about this count in full, larger ones by their logarithm
_UNTRACKED_WEIGHT = 0.1  # of a cell of which only the ray is known
_ASK_WEIGHT, _DEVIATION_WEIGHT = 5.0, 0.3
_VALIDATIONS = 4


@dataclass(frozen=True)
class CoordinateTraining:
    """What a regressor of scene coordinates learns from, beside RegressorTraining's steps and learning rate."""

    images: int = field(default=1200, metadata={'range': (1, 1_000_000)})    # augmented views whose features are kept
    batch: int = field(default=2048, metadata={'range': (2, 1_000_000)})     # cells, half of them tracked


@dataclass(frozen=True, eq=False)
class Cells:
    """N cells of augmented views, and what is known of where they look."""

    inputs: Tensor        # [N, C] half
    ray: Tensor           # [N, 2] x / z and y / z in the camera
    focal: Tensor         # [N] in cells
    T_cam_scene: Tensor   # [N, 3, 4], pose units
    xyz: Tensor           # [N, 3], pose units; of cells without a tracked point nonsense

    def draw(self, count: int, generator: torch.Generator) -> 'Cells':
        rows = draw(len(self.ray), count, generator)
        return Cells(*(getattr(self, name)[rows.to(self.ray.device)] for name in _COLUMNS))

    def to(self, device: torch.device) -> 'Cells':
        return Cells(*(getattr(self, name).to(device) for name in _COLUMNS))


_COLUMNS = tuple(each.name for each in fields(Cells))


class CellSource:
    """Shows an extractor augmented views and keeps what some of their cells see."""

    def __init__(self, extractor: Extractor, views: Views, points: SparsePoints, scene: SceneNormalisation,
                 config: DescriptorTraining, device: torch.device):
        self._extractor, self._device, self._camera = extractor, device, views.camera
        self._pairs = PairSource(views, points, replace(config, zoom=_ZOOM), device)
        self._T_cam_scene = invert(scene.pose_to_scene(views.T_map_cam))
        self._xyz = points_in_pose_units(points.xyz, scene)

    @torch.inference_mode()
    def look(self, views: list[int], generator: torch.Generator) -> tuple[Cells, Cells]:
        """Cells with a tracked point, and any cells."""
        images, done = self._pairs.augmented(views, generator)
        inputs = cell_inputs(self._extractor(images.contiguous(memory_format=torch.channels_last)))
        kept = [self._kept(each.float().cpu(), how, generator) for each, how in zip(inputs, done, strict=True)]
        return tuple(_joined(column) for column in zip(*kept, strict=True))

    def _kept(self, inputs: Tensor, how: Augmented, generator: torch.Generator) -> tuple[Cells, Cells]:
        points = self._pairs.points_of(how.view)
        pixels, seen = (each.cpu() for each in self._pairs.project(how, points))
        some = seen.nonzero()[:, 0][_shuffled(int(seen.sum()), generator)[:_TRACKED]]
        height, width = inputs.shape[1:]
        anywhere = _shuffled(height * width, generator)[:_ANY]
        return (self._cells(inputs, how, to_cells(pixels[some], COARSE_STRIDE), self._xyz[points[some]]),
                self._cells(inputs, how, cell_centres(height, width)[anywhere], torch.zeros(len(anywhere), 3)))

    def _cells(self, inputs: Tensor, how: Augmented, cells: Tensor, xyz: Tensor) -> Cells:
        camera = self._camera.resized(inputs.shape[2], inputs.shape[1])
        focal = torch.tensor([camera.fx, camera.fy], dtype=torch.float64) * how.zoom
        ray = (cells - torch.tensor([camera.cx, camera.cy], dtype=torch.float64)) / focal
        turned = pose(how.R_cam_new.cpu().mT, torch.zeros(3, dtype=torch.float64)) @ self._T_cam_scene[how.view]
        return Cells(sample(inputs, cells.float()).half(), ray.float(), focal[:1].float().expand(len(cells)),
                     turned[:3].float().expand(len(cells), 3, 4), xyz.float())


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, device=generator.device).cpu()


def _joined(parts: list[Cells]) -> Cells:
    return Cells(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))


def coordinate_arguments(config: RegressorTraining, extractor: Extractor) -> dict[str, object]:
    """The arguments that build the regressor: those of the preset, and the extractor's channels."""
    return {**config.arguments, 'descriptor_channels': extractor.coarse_head.out_channels,
            'context_channels': extractor.backbone.levels[2][0]}


def points_in_pose_units(xyz: Tensor, scene: SceneNormalisation) -> Tensor:
    """Map frame, metres -> what a regressor of coordinates says. [N, 3] -> [N, 3] float64."""
    return scene.points_to_scene(xyz) * (scene.scene_unit_m / scene.pose_unit_m)


def collect(source: CellSource, views: int, images: int, seed: int, device: torch.device, show: bool) -> tuple[Cells, Cells]:
    """Cells of so many augmented images, of all views alike."""
    cpu, generator = torch.Generator().manual_seed(seed), torch.Generator(device=device).manual_seed(seed)
    order = torch.cat([torch.randperm(views, generator=cpu) for _ in range(math.ceil(images / views))])[:images]
    parts = [source.look(some.tolist(), generator)
             for some in tqdm(order.split(_AT_ONCE), desc='features of augmented views', disable=not show, leave=False, mininterval=2.0)]
    return tuple(_joined(column) for column in zip(*parts, strict=True))


def coordinate_loss(said: Coordinates, cells: Cells, tracked: Tensor, usual_depth: float) -> tuple[Tensor, Tensor]:
    """The loss of N cells, and how far off each is, [N], in cells as the camera sees it.

    Of a cell with a tracked point (tracked [N] bool) the error is a distance in space, of any other one across its ray; a
    cell that looks behind the camera is drawn to a point in front of it. Errors count by their logarithm, so that what
    cannot be known does not lead; deviations by the likelihood of a Laplace distribution with the error as it is.
    """
    R, t = cells.T_cam_scene[:, :, :3], cells.T_cam_scene[:, :, 3]
    there = (R @ said.xyz.unsqueeze(2))[..., 0] + t
    truth = (R @ cells.xyz.unsqueeze(2))[..., 0] + t
    nearest = 0.05 * usual_depth
    guess = usual_depth * F.pad(cells.ray, (0, 1), value=1.0)
    in_space = (there - truth).norm(dim=1) / truth[:, 2].clamp_min(nearest)
    across = (there[:, :2] / there[:, 2:].clamp_min(nearest) - cells.ray).norm(dim=1)
    behind = (there - guess).norm(dim=1) / usual_depth
    error = cells.focal * torch.where(tracked, in_space, torch.where(there[:, 2] > nearest, across, behind))
    weight = torch.where(tracked, 1.0, _UNTRACKED_WEIGHT)
    likelihood = math.sqrt(2) * error.detach() / said.deviation + 2 * said.deviation.log()
    return (weight * _SOFT * torch.log1p(error / _SOFT) + _DEVIATION_WEIGHT * likelihood / COARSE_STRIDE).mean(), error.detach()


def ask_loss(said: Coordinates, xyz: Tensor, values: Tensor, near: float) -> Tensor:
    """Cross entropy between the prototypes that cells asked and those near where they look. xyz [N, 3], as the values are."""
    meant = (-torch.cdist(xyz, values.detach()).square() / (2 * near ** 2)).softmax(1)
    return -(meant * said.asked.log_softmax(1)).sum(1).mean()


def spacing(xyz: Tensor) -> float:
    """Median distance [N, 3] -> of a point from the nearest other one."""
    distances = torch.cdist(xyz, xyz)
    return distances.masked_fill(distances == 0, torch.inf).amin(1).median().item()


def train_coordinates(fabric, extractor: Extractor, views: Views, validation: Views, points: SparsePoints,
                      scene: SceneNormalisation, regressor: RegressorTraining, config: CoordinateTraining,
                      looks: DescriptorTraining, seed: int, directory: Path) -> nn.Module:
    """Train (or finish training) a regressor of scene coordinates; returns it in evaluation mode.

    views, validation: at the extractor's camera; looks: how views are augmented.
    """
    torch.manual_seed(seed)
    model = build_regressor(regressor.kind, coordinate_arguments(regressor, extractor)).see_through(extractor, views.camera)
    first = build_points(extractor, views, points, len(model.keys), fabric.global_rank == 0)
    model.remember(first.coarse, points_in_pose_units(first.xyz, scene).float())
    near = spacing(model.values.detach())
    model = model.to(fabric.device)
    steps = regressor.total_steps(len(views))
    optimizer = torch.optim.AdamW(model.parameters(), regressor.learning_rate, weight_decay=1e-4)
    scheduler = warm_cosine(optimizer, steps)
    loop = Loop('regressor', fabric, directory, steps,
                {'model': model, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    if loop.step < steps:
        source = CellSource(extractor, views, points, scene, looks, fabric.device)
        kept = collect(source, len(views), config.images, seed + fabric.global_rank, fabric.device, fabric.global_rank == 0)
        usual_depth = _depths(kept[0]).median().item()
    tracked = torch.arange(2 * (config.batch // 2), device=fabric.device) < config.batch // 2
    for step in loop:
        generator = step_generator(fabric, seed, step)
        cells = _joined([each.draw(config.batch // 2, generator).to(fabric.device) for each in kept])
        with fabric.autocast():
            said = model.coordinates(cells.inputs.float())
            loss, error = coordinate_loss(said, cells, tracked, usual_depth)
            asked = ask_loss(Coordinates(*(each[tracked] for each in said)), model.inward(cells.xyz[tracked]), model.values, near)
            total = loss + _ASK_WEIGHT / COARSE_STRIDE * asked
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(total)
        average_gradients(fabric, model.parameters())
        optimizer.step()
        scheduler.step()
        loop.log(loss=loss, asked=asked, error_cells=error[tracked].median())
        if (step + 1) % math.ceil(steps / _VALIDATIONS) == 0 or step + 1 == steps:
            _validate(loop, model, validation, scene, fabric.device)
    return model.eval()


def _depths(cells: Cells) -> Tensor:
    return (cells.T_cam_scene[:, 2, :3] * cells.xyz).sum(1) + cells.T_cam_scene[:, 2, 3]


def _validate(loop: Loop, model: CoordinateRegressor, validation: Views, scene: SceneNormalisation, device: torch.device) -> None:
    errors_m, errors_deg = pose_errors(predict_poses(model, validation.images, scene, device), validation.T_map_cam)
    loop.log(force=True, validation_m=errors_m.median(), validation_deg=errors_deg.median())
    model.train()
