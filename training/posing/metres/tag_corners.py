"""Where a printed square's corners are, to a tenth of a pixel: the crossings of its edges.

A corner that is found by itself lies inside: blur rounds it, by 0.4 pixels of 20-pixel tags in a sharp image, which would
be 3 % of their side. Edges stay where they are.
"""

import cv2
import numpy as np

_CELLS = 8            # of a tag's side, at most; its black frame is one wide
_ALONG = np.linspace(0.15, 0.85, 15)
_STEP_PX = 0.25
_REACH_PX = 1.0, 2.5  # to either side of an edge that is looked for, at least and at most
_ROUNDS = 3


def edge_corners(grey: np.ndarray, corners: np.ndarray) -> np.ndarray | None:
    """grey [H, W] uint8, corners [4, 2] of a dark square on light ground, in order -> the same [4, 2], refined.

    None where an edge is not there, or leads away.
    """
    refined = corners.astype(np.float64)
    for _ in range(_ROUNDS):
        lines = [_line(grey, refined[k], refined[(k + 1) % 4], refined.mean(0)) for k in range(4)]
        if any(line is None for line in lines):
            return None
        refined = np.array([_crossing(lines[k - 1], lines[k]) for k in range(4)])
    side = np.linalg.norm(corners[1] - corners[0])
    return refined if np.abs(refined - corners).max() < 0.1 * side + 1 else None


def _line(grey: np.ndarray, start: np.ndarray, end: np.ndarray, centre: np.ndarray) -> tuple | None:
    """(point, direction) of the edge near a segment: at each of some places the centroid of the rise in brightness outwards."""
    direction = (end - start) / np.linalg.norm(end - start)
    outwards = np.array([direction[1], -direction[0]])
    outwards *= np.sign(outwards @ ((start + end) / 2 - centre)) or 1.0
    reach = np.clip(0.6 * np.linalg.norm(end - start) / _CELLS, *_REACH_PX)
    offsets = np.arange(-reach, reach + _STEP_PX / 2, _STEP_PX)
    at = start + _ALONG[:, None] * (end - start)
    samples = at[:, None] + offsets[:, None] * outwards
    profile = cv2.remap(grey.astype(np.float32), samples.astype(np.float32), None, cv2.INTER_LINEAR)
    rise = np.diff(profile, axis=1).clip(0)
    total = rise.sum(1)
    there = total > 0.5 * np.median(total)
    if np.median(total) < 10 or there.sum() < 5:
        return None
    moved = (rise @ (offsets[:-1] + _STEP_PX / 2))[there] / total[there]
    vx, vy, x, y = cv2.fitLine((at[there] + moved[:, None] * outwards).astype(np.float32), cv2.DIST_HUBER, 0, 0.01, 0.01)[:, 0]
    return np.array([x, y], np.float64), np.array([vx, vy], np.float64)


def _crossing(a: tuple, b: tuple) -> np.ndarray:
    (p, u), (q, v) = a, b
    across = u[0] * v[1] - u[1] * v[0]
    if abs(across) < 1e-6:
        return p
    return p + u * ((q - p)[0] * v[1] - (q - p)[1] * v[0]) / across
