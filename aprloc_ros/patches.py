"""Small pieces of a place's surface, as sharp as the camera that saw them: what the last step of `nre` aligns."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.similarity import Similarity

SIDE = 10    # pixels
BLUR_PX = 0.5   # standard deviation, of their image and of a query's: between pixels, both are then smooth


@dataclass(frozen=True, eq=False)
class Patches:
    """Q square pieces of planes. Pixel (i, j) of one, counted from its middle, lies at centre + i steps[0] + j steps[1]."""

    point: Tensor       # [Q] int64, ascending: of the map's point that lies on it; of some there are two
    centre: Tensor      # [Q, 3] float64, map frame, metres
    steps: Tensor       # [Q, 2, 3] float32, metres: to the next pixel on the right, and below
    luminance: Tensor   # [Q, SIDE, SIDE] uint8
    view: Tensor        # [Q] int64: the map's view that it was cut from; -1 in maps of older versions

    def __len__(self) -> int:
        return len(self.point)

    def moved(self, change: Similarity) -> 'Patches':
        """In another map frame."""
        turned = (self.steps.double() @ change.rotation.T * change.scale).float()
        return replace(self, centre=change.points(self.centre), steps=turned)

    def of_points(self, position: Tensor) -> 'Patches':
        """Those whose point is kept: position [P] of each point among the kept ones, -1 for one that is left out."""
        found = self._of(position[self.point] >= 0)
        return replace(found, point=position[found.point])

    def of_views(self, position: Tensor) -> 'Patches':
        """Those that were cut from a view that is kept: position [V] of each view among the kept ones, -1 for one that is left out."""
        view = torch.where(self.view < 0, -1, position[self.view])
        return replace(self, view=view)._of((view >= 0) | (self.view < 0))

    def _of(self, kept: Tensor) -> 'Patches':
        """kept: [Q] bool"""
        return Patches(*(getattr(self, each.name)[kept] for each in fields(self)))


def pack_patches(patches: Patches, origin: Tensor) -> dict[str, Tensor]:
    """Tensors for a file, 132 bytes a patch. origin [3]: near all of them, so that half the digits do."""
    return {'patch_points': patches.point.to(torch.int32), 'patch_centres': (patches.centre - origin).float(),
            'patch_steps': patches.steps.half(), 'patch_luminance': patches.luminance, 'patch_views': patches.view.to(torch.int32)}


def unpack_patches(tensors: dict[str, Tensor], origin: Tensor, points: int, views: int, where: str) -> Patches | None:
    """The inverse of pack_patches, up to rounding; None where there are none. Raises AprlocError, which begins with
    `where`, for anything else than patches of a map of so many points and views."""
    if 'patch_points' not in tensors:
        return None
    try:
        found = Patches(tensors['patch_points'].long(), tensors['patch_centres'].double() + origin,
                        tensors['patch_steps'].float(), tensors['patch_luminance'].to(torch.uint8),
                        tensors.get('patch_views', torch.full_like(tensors['patch_points'], -1)).long())
    except (KeyError, RuntimeError) as error:
        raise AprlocError(f'{where}: not the patches of a map ({str(error).splitlines()[0]})') from None
    count = len(found.point)
    if (found.centre.shape != (count, 3) or found.steps.shape != (count, 2, 3)
            or found.luminance.shape != (count, SIDE, SIDE) or found.view.shape != (count,)):
        raise AprlocError(f'{where}: the patches of the map do not fit together')
    if ((found.point < 0) | (found.point >= points)).any() or (found.point.diff() < 0).any():
        raise AprlocError(f'{where}: a patch belongs to a point that is not in the map')
    if ((found.view < -1) | (found.view >= views)).any():
        raise AprlocError(f'{where}: a patch was cut from a view that is not in the map')
    return found
