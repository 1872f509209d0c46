"""Where captures keep masks, and which of their pixels hide.

| place | written by | hides |
|---|---|---|
| `mask_path` of a frame | nerfstudio | black |
| `masks/NAME.jpg.png` in the capture's folder or beside the images | COLMAP | black |
| `masks/NAME.png` in the capture's folder, which has its images in a folder | nerfstudio | black |
| `masks/NAME.png` beside the images | `aprloc masks` | white |
| `dynamic_mask_NAME.png` beside the images | instant-ngp | white |

`masks_hide` in capture.yaml goes before what a place says.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Frame, Mask
from aprloc_ros.training.datasets.sizes import has_aspect

_LOOKED_AT = 100      # masks, of which the share is told
_DOUBTFUL = 0.5       # a greater share hidden, and `masks/NAME.png` may mean the contrary
_NOTHING_LEFT = 0.95


def own_place(frame: Frame) -> Path:
    """Where `aprloc masks` writes."""
    return frame.image_path.parent / 'masks' / f'{frame.image_path.stem}.png'


def hidden_pixels(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    """Of an image of that (width, height), [H, W] bool. A pixel is hidden where any part of it is.

    Raises AprlocError for a mask that cannot be read or is of another aspect than the image.
    """
    image = cv2.imread(str(mask.path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise AprlocError(f'{mask.path}: not a readable image; remove it or write it anew')
    colours = image[..., :3] if image.ndim == 3 else image[..., None]   # what is transparent says nothing
    hidden = colours.any(-1) == (mask.hides == 'white')
    mask_size = image.shape[1::-1]
    if mask_size == size:
        return hidden
    if not has_aspect(mask_size, size):
        raise AprlocError(f'{mask.path}: the mask is {mask_size[0]}x{mask_size[1]} but its image {size[0]}x{size[1]}, '
                          f'of another aspect')
    return cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0


def with_masks(frames: tuple[Frame, ...], root: Path, hides: str | None) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """The frames with their masks, and what to say of them.

    root: the capture's folder; hides: 'black' or 'white' where the user says. Raises AprlocError where that has to be
    asked, and where masks hide nearly everything.
    """
    found = [frame.mask or _find(frame, root) for frame in frames]
    if hides:
        found = [mask and replace(mask, hides=hides) for mask in found]
    frames = tuple(replace(frame, mask=mask) for frame, mask in zip(frames, found))
    masked = [frame for frame in frames if frame.mask]
    if not masked:
        return frames, ()
    chosen = np.unique(np.linspace(0, len(masked) - 1, min(len(masked), _LOOKED_AT)).round().astype(int))
    share = float(np.mean([_hidden_share(masked[i]) for i in chosen]))
    first = masked[0].mask
    said = (f'masks: {len(masked)} of {len(frames)} images have one (as {first.path.parent.name}/{first.path.name}), '
            f'whose {first.hides} pixels hide: {100 * share:.0f} % of all, so that {100 * (1 - share):.0f} % are used')
    if share > _NOTHING_LEFT or share > _DOUBTFUL and not (hides or _tells(masked[0])):
        other = 'white' if first.hides == 'black' else 'black'
        raise AprlocError(f'{root}: {said}; if it is the {other} ones that hide, write "masks_hide: {other}" into '
                          f'capture.yaml in the capture\'s folder, else "masks_hide: {first.hides}"; at most '
                          f'{100 * _NOTHING_LEFT:.0f} % may be hidden')
    return frames, (said,)


def _hidden_share(frame: Frame) -> float:
    return float(hidden_pixels(frame.mask, (frame.camera.width, frame.camera.height)).mean())


def _tells(frame: Frame) -> bool:
    """Whether the name of a mask leaves no doubt of what hides: tools that write `NAME.png` differ."""
    return frame.mask.path.name in (f'{frame.image_path.name}.png', f'dynamic_mask_{frame.image_path.stem}.png')


def _find(frame: Frame, root: Path) -> Mask | None:
    return next((mask for mask in _places(frame, root) if mask.path.is_file()), None)


def _places(frame: Frame, root: Path) -> Iterator[Mask]:
    image = frame.image_path
    for folder in dict.fromkeys((image.parent / 'masks', *_beside_images(image, root))):
        yield Mask(folder / f'{image.name}.png', 'black')
    yield Mask(own_place(frame), 'white')
    for folder in _beside_images(image, root):
        yield Mask(folder / f'{image.stem}.png', 'black')
    yield Mask(image.with_name(f'dynamic_mask_{image.stem}.png'), 'white')


def _beside_images(image: Path, root: Path) -> Iterator[Path]:
    """ROOT/images_4/left/NAME.jpg -> ROOT/masks_4/left, ROOT/masks/left; ROOT/left/NAME.jpg -> ROOT/masks/left."""
    parts = image.parent.relative_to(root).parts if image.is_relative_to(root) else ()
    if parts and parts[0].startswith('images'):
        yield root.joinpath(parts[0].replace('images', 'masks'), *parts[1:])
        yield root.joinpath('masks', *parts[1:])
    elif parts:
        yield root.joinpath('masks', *parts)
