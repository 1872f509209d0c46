"""The descriptors of a map learn a later drive's looks, and rehearse what they knew: stored descriptors, rendered views."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.networks.extractor import COARSE_STRIDE, FINE_STRIDE, Extractor
from aprloc_ros.points import MapPoints
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.descriptors import DescriptorTraining, PairSource, step_loss
from aprloc_ros.training.stages.loop import Loop, draw, step_generator, warm_cosine
from aprloc_ros.training.stages.nre_loss import nre, to_cells

_STEPS = 600
_LEARNING_RATE = 5e-4   # a quarter of what learns them from nothing


def rehearse(fabric, extractor: Extractor, views: Views, points: SparsePoints, known: MapPoints, config: DescriptorTraining,
             seed: int, directory: Path) -> Extractor:
    """The extractor after (or after the rest of) the training, in evaluation mode.

    views: of the drive, and renderings of the map's; points: that they see, the last len(known) of them being the map's in
    their order. The map's points keep their descriptors, so an image of either drive must find them by these.
    """
    torch.manual_seed(seed)
    source = PairSource(views, points, config, fabric.device)
    stored = _Stored(source, known, len(points.xyz) - len(known))
    extractor.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(extractor.parameters(), _LEARNING_RATE, weight_decay=config.weight_decay)
    scheduler = warm_cosine(optimizer, _STEPS)
    loop = Loop('rehearsal', fabric, directory, _STEPS, {'model': extractor, 'optimizer': optimizer, 'scheduler': scheduler}, {})
    for step in loop:
        generator = step_generator(fabric, seed, step)
        loss = step_loss(extractor, source, generator) + stored.loss(extractor, generator)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        torch.nn.utils.clip_grad_norm_(extractor.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        loop.log(loss=loss)
    return extractor.eval().requires_grad_(False)


class _Stored:
    """The map's descriptors, which images must go on to match."""

    def __init__(self, source: PairSource, known: MapPoints, first: int):
        self._source, self._first = source, first
        self._coarse, self._fine = known.coarse.to(source.device), known.fine.to(source.device)
        self._views = [view for view in range(len(source.images)) if len(self._points_of(view))]

    def _points_of(self, view: int) -> Tensor:
        points = self._source.points_of(view)
        return points[points >= self._first]

    def loss(self, model: Extractor, generator: torch.Generator) -> Tensor:
        """Mean NRE of the stored descriptors (NRE Eq. 4) in two views, of both heads."""
        source, losses = self._source, []
        chosen = draw(len(self._views), 2, generator).tolist()
        images, augmented = source.augmented([self._views[index] for index in chosen], generator)
        features = model(images.contiguous(memory_format=torch.channels_last))
        for i, image in enumerate(augmented):
            points = self._points_of(image.view)
            pixels, seen = source.project(image, points)
            rows = points.to(source.device)[seen] - self._first
            if len(rows):
                losses += [nre(F.normalize(table[rows], dim=1), maps[i], scale, to_cells(pixels[seen], stride)).mean()
                           for table, maps, scale, stride in ((self._coarse, features.coarse, features.coarse_scale, COARSE_STRIDE),
                                                              (self._fine, features.fine, features.fine_scale, FINE_STRIDE))]
        return torch.stack(losses).mean() * 2 if losses else sum(p.sum() for p in model.parameters()) * 0


def joined_views(first: Views, second: Views) -> Views:
    """Views of one camera, one after another."""
    return replace(first, **{name: torch.cat([getattr(first, name), getattr(second, name)])
                             for name in ('images', 'seen', 'histograms', 'T_map_cam')})
