"""`aprloc benchmark film`: a replay as a moving picture: the image, what the map shows at its pose, the way from above."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aprloc_ros.camera import warp_image
from aprloc_ros.catalogue import find_map
from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.recordings.bag_images import BagImage, camera_frame, choose_topics, read_images
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.truth import TruthOptions, find_truth, read_tf
from aprloc_ros.scoring.comparison import compare_views
from aprloc_ros.scoring.evaluation import FrameRecord
from aprloc_ros.scoring.figures import ground_axes
from aprloc_ros.scoring.replay import Robot, replay
from aprloc_ros.scoring.replay_scores import true_records
from aprloc_ros.viewing.cloud import Cloud, map_cloud

HEIGHT = 240          # pixels of each panel
CLOUD_RAYS = 60_000
PACE = 2.0            # times that of the recording
QUALITY = 55          # of WebP: large enough to read the signs in the images
MARGIN = 12           # pixels around the place seen from above
INNER = 0.02, 0.98    # quantiles of the points along each axis that must be in the picture
TRUTH, ESTIMATE, TEXT = (76, 175, 80), (239, 83, 80), (255, 255, 255)


def benchmark_film(options):
    """A bag with truth, replayed, as an animated WebP or GIF: image, rendering at the estimate, and the way from above."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    images, records = replayed(options.bag, bundle, options.device)
    plan = Plan(bundle, torch.stack([record.T_truth for record in records]))
    frames = [np.hstack([*panels(bundle, images[record.name], record), plan.draw(records[:index + 1])])
              for index, record in enumerate(records) if index % options.every == 0]
    seconds = (records[-1].stamp_s - records[0].stamp_s) / PACE
    first, *others = [Image.fromarray(frame) for frame in frames]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    first.save(options.out, save_all=True, append_images=others, duration=round(1000 * seconds / len(frames)), loop=0,
               quality=QUALITY, method=6)
    print(f'{options.out}: {len(frames)} frames of {first.width}x{first.height}, {options.out.stat().st_size / 1e6:.1f} MB')


def replayed(bag, bundle: MapBundle, device: str) -> tuple[dict[str, BagImage], list[FrameRecord]]:
    """Images by name, as they were encoded, and the answered ones beside their truth."""
    with open_recording(bag) as recording:
        topics = choose_topics(recording)
        images = {image.name: image for image in read_images(recording, topics)}
        truth = find_truth(recording, read_tf(recording), TruthOptions(), bundle.manifest.frame_id,
                           camera_frame(recording, topics), len(images))
        frames = list(replay(images.values(), Localizer(bundle, device), Robot()))
    records = list(true_records(frames, truth).values())
    if len(records) < 2:
        raise AprlocError(f'{bag}: fewer than two images were answered whose truth is known; try aprloc replay on it')
    return images, records


def panels(bundle: MapBundle, image: BagImage, record: FrameRecord) -> list[np.ndarray]:
    """[HEIGHT, W, 3] uint8 each: the image as the map's camera would have taken it, and what the map shows."""
    own, pixels = bundle.manifest.camera, image.pixels()
    rendering = compare_views(bundle, pixels, image.camera(), record.T_estimate)['rendering at the estimate']
    shown = own.resized(round(own.width * HEIGHT / own.height), HEIGHT)
    query = warp_image(pixels, bundle.manifest.source(image.camera(), pixels.shape[1], pixels.shape[0]), shown).copy()
    rendering = cv2.resize(rendering, (shown.width, shown.height), interpolation=cv2.INTER_CUBIC)
    write(query, 'camera image', (8, 20))
    write(rendering, 'the map, at the pose that was found', (8, 20))
    return [query, rendering]


class Plan:
    """The place from above, and on it how far the drive has come."""

    def __init__(self, bundle: MapBundle, T_truth: Tensor):
        """T_truth: [N, 4, 4] of the whole drive."""
        manifest, views = bundle.manifest, bundle.points.view_poses
        cloud = map_cloud(bundle.field, manifest.scene, manifest.camera, views, rays=CLOUD_RAYS)
        self._axes = list(ground_axes(views[:, :3, 1].mean(0)))
        ground = cloud.xyz[:, self._axes].numpy()
        self._low, high = np.quantile(ground, INNER[0], axis=0), np.quantile(ground, INNER[1], axis=0)
        self._scale = (HEIGHT - 2 * MARGIN) / (high - self._low)[1]
        width = round(self._scale * (high - self._low)[0]) + 2 * MARGIN
        self._background = self._from_above(cloud, views, width)
        cv2.polylines(self._background, [self._pixels(T_truth[:, :3, 3])], False, TRUTH, 2, cv2.LINE_AA)

    def draw(self, records: Sequence[FrameRecord]) -> np.ndarray:
        """[HEIGHT, W, 3] uint8: where the records were found to be, the last one with the direction of its view."""
        picture, T = self._background.copy(), torch.stack([record.T_estimate for record in records])
        for point in self._pixels(T[:, :3, 3]):
            cv2.circle(picture, point.tolist(), 2, ESTIMATE, -1, cv2.LINE_AA)
        here, ahead = self._pixels(torch.stack([T[-1, :3, 3], T[-1, :3, 3] + 3 * T[-1, :3, 2]]))
        cv2.arrowedLine(picture, here.tolist(), ahead.tolist(), TEXT, 2, cv2.LINE_AA, tipLength=0.4)
        write(picture, f'off by {100 * records[-1].error_m:.1f} cm, {records[-1].error_deg:.2f} deg', (8, 20))
        return picture

    def _from_above(self, cloud: Cloud, views: Tensor, width: int) -> np.ndarray:
        """Higher points over lower ones, darkened so that the way stands out."""
        up = -views[:, :3, 1].mean(0).to(cloud.xyz)
        order = (cloud.xyz @ up).argsort()
        u, v = self._pixels(cloud.xyz[order]).T
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < HEIGHT)
        picture = np.zeros((HEIGHT, width, 3), np.uint8)
        picture[v[inside], u[inside]] = cloud.rgb[order].numpy()[inside] // 3 * 2
        return cv2.morphologyEx(picture, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))

    def _pixels(self, xyz: Tensor) -> np.ndarray:
        """[N, 3] in the map -> [N, 2] int32 columns and rows."""
        along = (xyz[:, self._axes].numpy() - self._low) * self._scale + MARGIN
        return np.stack([along[:, 0], HEIGHT - along[:, 1]], 1).round().astype(np.int32)


def write(picture: np.ndarray, text: str, corner: tuple[int, int]) -> None:
    """Light with a dark edge, into the picture itself."""
    for colour, thickness in (((0, 0, 0), 3), (TEXT, 1)):
        cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
