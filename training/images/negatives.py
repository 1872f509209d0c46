"""Images of no place, made from those of the place: whatever pose is found for them is wrong."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from aprloc_ros.training.images.augmentation import jitter_colours

_GRID = 4
_COLOUR_STRENGTH = 1.5
PER_FRAME = 2


def _flipped(images: Tensor, index: int, generator: torch.Generator) -> Tensor:
    """Top to bottom, which no place looks like. (Turned by 180 degrees it would be a true image of a turned camera; left to
    right, of the other wing of a building: many fronts are symmetric, and a map that recognises them is right to.)"""
    return images[index].flip(-2)


def _shuffled(images: Tensor, index: int, generator: torch.Generator) -> Tensor:
    """Its own patches, in another order."""
    patches = _patches(images[index])
    order = torch.randperm(len(patches), generator=generator)
    return _assemble(patches[order], images[index])


def _elsewhere(images: Tensor, index: int, generator: torch.Generator) -> Tensor:
    """Patches of any frames, some mirrored, in other colours: natural texture in an arrangement that is nowhere."""
    count = _GRID * _GRID
    chosen = torch.randint(len(images), (count,), generator=generator)
    order = torch.randperm(count, generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    patches = torch.stack([_patches(images[frame])[place] for frame, place in zip(chosen, order)])
    patches = torch.where(mirrored.to(patches.device)[:, None, None, None], patches.flip(-1), patches)
    scene = _assemble(patches, images[index])
    return jitter_colours(scene[None].cpu(), _COLOUR_STRENGTH, generator)[0].to(images)


def _noise(images: Tensor, index: int, generator: torch.Generator) -> Tensor:
    """Each pixel at random."""
    return torch.rand(images[index].shape, generator=generator).to(images)


# One of each is enough; the others are another image for each frame.
_PLAIN = {'black': 0.0, 'grey': 0.5, 'white': 1.0}
_MADE: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    'elsewhere': _elsewhere, 'shuffled': _shuffled, 'flipped': _flipped, 'noise': _noise}
NEGATIVES = (*_PLAIN, *_MADE)


def negatives(images: Tensor, generator: torch.Generator, per_frame: int = PER_FRAME) -> Iterator[tuple[str, int, Tensor]]:
    """Kind (of NEGATIVES), index of the frame it stems from, and image [3, h, w], one after another.

    images: [N, 3, h, w] in [0, 1]. The kinds take turns; a CPU generator makes them the same on every device.
    """
    for kind, value in _PLAIN.items():
        yield kind, 0, torch.full_like(images[0], value)
    kinds = list(_MADE)
    for number in range(per_frame * len(images)):
        kind, index = kinds[number % len(kinds)], number // per_frame
        yield kind, index, _MADE[kind](images, index, generator)


def _patches(image: Tensor) -> Tensor:
    """[3, h, w] -> [GRID * GRID, 3, h // GRID, w // GRID], without the rest at the right and the bottom."""
    h, w = (side // _GRID for side in image.shape[1:])
    cut = image[:, :_GRID * h, :_GRID * w].unflatten(2, (_GRID, w)).unflatten(1, (_GRID, h))
    return cut.permute(1, 3, 0, 2, 4).flatten(0, 1)


def _assemble(patches: Tensor, image: Tensor) -> Tensor:
    """The patches in rows, [3, h, w] as large as the image; what they do not fill stays as it was."""
    side = math.isqrt(len(patches))
    grid = patches.unflatten(0, (side, side)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    result = image.clone()
    result[:, :grid.shape[1], :grid.shape[2]] = grid
    return result
