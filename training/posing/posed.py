"""Images with poses as structure from motion leaves them: in a frame and unit of their own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.posing.lenses import found_cameras
from aprloc_ros.training.posing.sources.shots import Shot


@dataclass(frozen=True, eq=False)
class PosedImages:
    """N images in the order of the source."""

    names: tuple[str, ...]             # below folder
    stamps_s: tuple[float, ...] | None   # None where the source has none
    T_map_cam: Tensor                  # [N, 4, 4] float64
    cameras: tuple[Camera, ...]
    folder: Path                       # of the images
    source: Path                       # the folder, video or bag that they come from


def camera_poses(reconstruction) -> dict[str, Tensor]:
    """Name -> T_map_cam [4, 4] float64 of the images that a reconstruction of pycolmap has poses of."""
    T_cam_map = {}
    for number in reconstruction.reg_image_ids():
        image = reconstruction.images[number]
        T_cam_map[image.name] = torch.eye(4, dtype=torch.float64)
        T_cam_map[image.name][:3] = torch.from_numpy(image.cam_from_world().matrix())
    return {name: invert(T) for name, T in T_cam_map.items()}


def posed_images(reconstruction, shots: dict[str, Shot], folder: Path, source: Path) -> PosedImages:
    """shots: by name, in the order of the source."""
    T_map_cam, found = camera_poses(reconstruction), found_cameras(reconstruction)
    camera_of = {image.name: found[image.camera_id] for image in reconstruction.images.values()}
    names = tuple(name for name in shots if name in T_map_cam)
    stamps_s = tuple(shots[name].stamp_s for name in names)
    return PosedImages(names, None if None in stamps_s else stamps_s, torch.stack([T_map_cam[name] for name in names]),
                       tuple(camera_of[name] for name in names), folder, source)


def transform(pycolmap, reconstruction, similarity: Similarity):
    """The reconstruction into the similarity's new frame, in place."""
    rotation = pycolmap.Rotation3d(similarity.rotation.numpy())
    reconstruction.transform(pycolmap.Sim3d(similarity.scale, rotation, similarity.translation.numpy()))
