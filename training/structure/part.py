"""Some pairs of images to match, in a folder: their list, and a database of what matching reads and finds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aprloc_ros.training.structure.colmap import answering_signals

_DATABASE, _LIST = 'part.db', 'pairs.txt'


def write_part(pycolmap, stored, images: Mapping[str, object], pairs: Sequence[tuple[str, str]], folder: Path) -> Path:
    """The folder, of pairs of names; images: by name, of the stored database, whose numbers they keep."""
    folder.mkdir()
    (folder / _LIST).write_text(''.join(f'{a} {b}\n' for a, b in pairs))
    chosen = [images[name] for name in sorted({name for pair in pairs for name in pair})]
    frames = [stored.read_frame(image.frame_id) for image in chosen]
    with pycolmap.Database.open(folder / _DATABASE) as target:
        for number in sorted({image.camera_id for image in chosen}):
            target.write_camera(stored.read_camera(number), use_camera_id=True)
        for number in sorted({frame.rig_id for frame in frames}):
            target.write_rig(stored.read_rig(number), use_rig_id=True)
        for image, frame in zip(chosen, frames):
            bare = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
            target.write_image(bare, use_image_id=True)
            target.write_frame(frame, use_frame_id=True)
            target.write_keypoints(image.image_id, stored.read_keypoints(image.image_id))
            target.write_descriptors(image.image_id, stored.read_descriptors(image.image_id))
    return folder


def match_part(pycolmap, folder: Path):
    """Into the folder's database what its pairs have in common, on one thread."""
    matching, geometry = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    matching.num_threads, geometry.ransac.random_seed = 1, 0
    answering_signals(pycolmap.match_image_pairs, folder / _DATABASE, matching_options=matching, verification_options=geometry,
                      device=pycolmap.Device.cpu,
                      pairing_options=pycolmap.ImportedPairingOptions(match_list_path=folder / _LIST))


def take_part(pycolmap, folder: Path, stored, pairs: Iterable[tuple[int, int]]):
    """Into the stored database what was found of these pairs of numbers."""
    with pycolmap.Database.open(folder / _DATABASE) as found:
        for pair in pairs:
            if stored.exists_matches(*pair):   # of a call that was interrupted before their geometry
                stored.delete_matches(*pair)
            if found.exists_matches(*pair):
                stored.write_matches(*pair, found.read_matches(*pair))
            stored.write_two_view_geometry(*pair, found.read_two_view_geometry(*pair))
