"""Masks of moving objects: pixels of people and vehicles, which no training may look at (NeFeS section 3.2).

`aprloc masks` writes that of `PATH/NAME.jpg` to `PATH/masks/NAME.png`; whatever is not 0 there is moving. Where those
of other tools lie is told in datasets/mask_files.py.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.mask_files import hidden_pixels, own_place

# What may be elsewhere tomorrow, by the COCO names that panoptic models use.
MOVING = frozenset(('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'bird',
                    'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe'))


def load_mask(frame: Frame) -> Tensor | None:
    """Hidden pixels of a frame as captured, [H, W] bool; None where it has no mask."""
    if frame.mask is None:
        return None
    return torch.from_numpy(hidden_pixels(frame.mask, (frame.camera.width, frame.camera.height)))


def moving_pixels(frame: Frame, camera: Camera) -> Tensor:
    """Where `camera`, a rectified one in the frame's place, sees something that moves: [h, w] bool.

    A pixel counts as moving where any part of it is; nothing moves in a frame without a mask.
    """
    mask = load_mask(frame)
    if mask is None:
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    white = np.repeat(255 * mask.numpy().astype(np.uint8)[..., None], 3, -1)
    return torch.from_numpy(warp_image(white, frame.camera, camera)[..., 0] > 0)


def write_masks(capture: Capture, model: str, device: str = 'auto') -> int:
    """Write the masks that a capture lacks, by a panoptic segmentation model; returns how many.

    model: name or directory of a panoptic model of `transformers` with the COCO classes, such as Mask2Former's
    facebook/mask2former-swin-tiny-coco-panoptic. Masks that are there are left alone.
    Raises AprlocError where `transformers` or the model is missing.
    """
    frames = [frame for frame in (*capture.train, *capture.test) if not frame.mask and not own_place(frame).exists()]
    if not frames:
        return 0
    moving_of = _load_segmenter(model, resolve_device(device))
    for frame in frames:
        path = own_place(frame)
        path.parent.mkdir(exist_ok=True)
        if not cv2.imwrite(str(path), 255 * moving_of(frame.read_image()).astype(np.uint8)):
            raise AprlocError(f'{path}: cannot be written; make its folder writable')
    return len(frames)


def _load_segmenter(name: str, device: torch.device):
    """The function from an image [H, W, 3] uint8 RGB to its moving pixels [H, W] bool."""
    try:
        from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation
    except ImportError:
        raise AprlocError("masks are made with the package 'transformers', which is missing; "
                          'pip install transformers, or draw them by hand') from None
    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForUniversalSegmentation.from_pretrained(name).to(device).eval()
    except (OSError, ValueError) as error:
        raise AprlocError(f'model {name!r}: {str(error).strip().splitlines()[0]}; give the name of a panoptic '
                          f'segmentation model or the directory of a downloaded one') from None
    labels = {int(index) for index, label in model.config.id2label.items() if label in MOVING}
    if not labels:
        raise AprlocError(f'model {name!r}: knows none of {", ".join(sorted(MOVING))}; take one trained on COCO')

    @torch.inference_mode()
    def moving_of(image: np.ndarray) -> np.ndarray:
        inputs = processor(images=image, return_tensors='pt').to(device)
        found = processor.post_process_panoptic_segmentation(model(**inputs), target_sizes=[image.shape[:2]])[0]
        moving = [part['id'] for part in found['segments_info'] if part['label_id'] in labels]
        return np.isin(found['segmentation'].cpu().numpy(), moving)
    return moving_of
