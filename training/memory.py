"""What is left of the drives that taught a map: themselves where they are at hand, else what its field renders of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.drives import joined
from aprloc_ros.training.datasets.files import save_image
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.request import content_hash
from aprloc_ros.viewing.cloud import EVEN_EXPOSURE

_RENDERED = 100        # views: each is a point of the score
_RENDERED_SIDE = 120   # pixels that are really rendered: a field of this size knows no more


@dataclass(frozen=True, eq=False)
class Memory:
    """Frames of what a map knows."""

    unseen: tuple[Frame, ...]    # that calibrate: held out of its training
    trained: tuple[Frame, ...]   # that calibrate, their own views left out
    scored: tuple[Frame, ...]    # that must not get worse
    shown: tuple[Frame, ...]     # that rehearse it: taken, or rendered, at poses of its views
    text: str                    # what these are


def known_drives(manifest: Manifest, captures: Sequence[Capture]) -> tuple[Memory | None, Capture]:
    """What the captures that taught the map remember of it, None where none was given, and the one that is new to it."""
    drives = joined(captures).drives or captures
    is_old = [content_hash(drive) in manifest.data.hashes for drive in drives]
    old, new = ([drive for drive, known in zip(drives, is_old) if known is wanted] for wanted in (True, False))
    if len(new) != 1:
        names = ', '.join(capture.name for capture in new) or 'all of them taught it'
        raise AprlocError(f'one drive at a time extends a map; of those given {len(new)} are new to it ({names}): give one that did '
                          'not teach it, and with it any that did')
    if not old:
        return None, new[0]
    splits = [calibration_split(capture.train, capture.name) for capture in old]
    fit, calibration = (sum(frames, ()) for frames in zip(*splits))
    scored = sum((capture.test for capture in old), ()) or calibration
    fit, calibration, scored = (with_lenses(frames, manifest.lenses) for frames in (fit, calibration, scored))
    return Memory(calibration, (), scored, fit, f'{len(scored)} images held out of {", ".join(capture.name for capture in old)}'), new[0]


def rendered_memory(bundle: MapBundle, work_dir: Path, say) -> Memory:
    """What the field shows at poses of the map's views, evenly chosen; kept in the work directory."""
    poses, camera = bundle.points.view_poses, bundle.manifest.descriptors.camera
    chosen = evenly(len(poses), _RENDERED)
    folder = work_dir / 'rendered'
    folder.mkdir(exist_ok=True)
    say(f'the images that built the map are not here: its field renders {len(chosen)} of its views')
    renderer, frames = Renderer(bundle.field, bundle.manifest.scene, camera, _RENDERED_SIDE), []
    for view in tqdm(chosen, desc='rendering old views', leave=False, mininterval=2.0):
        path = folder / f'{view:06d}.png'
        if not path.is_file():
            pixels = renderer.render(poses[view:view + 1], EVEN_EXPOSURE[None])[0].permute(1, 2, 0).numpy()
            partial = path.with_suffix('.partial.png')
            save_image(partial, pixels[..., ::-1])
            partial.replace(path)
        frames.append(Frame(path.name, path, poses[view], camera, sequence='rendered', stamp_s=float(view)))
    frames = tuple(frames)
    return Memory((), frames, frames, frames, f'{len(frames)} old views as the field renders them')
