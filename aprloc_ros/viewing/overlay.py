"""What the camera saw beside what the map shows at the answer, and where the two differ, as one picture."""

import cv2
import numpy as np

PANEL_HEIGHT = 240        # pixels
_FULL_ERROR = 0.5         # mean difference of the colours, of 1, from which on the error map is at its brightest
_GAP = 4                  # pixels between the panels


def overlay_image(query: np.ndarray, rendering: np.ndarray) -> np.ndarray:
    """Query, rendering and error map side by side.

    Both [h, w, 3] uint8 RGB, of one camera -> [PANEL_HEIGHT, W, 3] uint8 RGB, contiguous.
    """
    assert query.shape == rendering.shape, (query.shape, rendering.shape)
    panels = [_enlarged(panel) for panel in (query, rendering, error_map(query, rendering))]
    gap = np.zeros((PANEL_HEIGHT, _GAP, 3), np.uint8)
    for panel, name in zip(panels, ('query', 'rendering', 'error'), strict=True):
        _write(panel, name)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def error_map(query: np.ndarray, rendering: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the colours, from black (equal) over red to white (half the range or more).

    Both [h, w, 3] uint8 -> [h, w, 3] uint8 RGB.
    """
    error = np.abs(query.astype(np.float32) - rendering.astype(np.float32)).mean(2) / (255 * _FULL_ERROR)
    scaled = (255 * error.clip(0, 1)).round().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_HOT), cv2.COLOR_BGR2RGB)


def _enlarged(image: np.ndarray) -> np.ndarray:
    width = max(1, round(image.shape[1] * PANEL_HEIGHT / image.shape[0]))
    interpolation = cv2.INTER_LINEAR if image.shape[0] < PANEL_HEIGHT else cv2.INTER_AREA
    return cv2.resize(image, (width, PANEL_HEIGHT), interpolation=interpolation)


def _write(panel: np.ndarray, text: str) -> None:
    """A word in the corner, white with a dark edge, into the panel itself."""
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(panel, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
