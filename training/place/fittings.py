"""What hangs on the walls of the court: windows, doors, posters, banners, a clock. All draw on a Canvas."""

import numpy as np

from aprloc_ros.training.place.texture import Canvas

STONE = (203, 192, 168)
GLASS = (52, 66, 84)
BRIGHT = ((196, 44, 40), (30, 92, 168), (236, 190, 50), (40, 132, 78), (240, 236, 224), (122, 60, 140),
          (232, 120, 36), (30, 34, 48))


def bright(rng: np.random.Generator, count: int = 1) -> list:
    """Different strong colours."""
    return [BRIGHT[i] for i in rng.permutation(len(BRIGHT))[:count]]


def sash_window(canvas: Canvas, u: float, v: float, width: float, height: float, panes=(2, 4), frame=(236, 232, 222)):
    """A glazed window with its own curtains or blind, centred on u, sill at v."""
    rng = canvas.rng
    left = u - width / 2
    canvas.box(left - 0.22, v - 0.16, width + 0.44, 0.16, STONE)
    canvas.box(left - 0.12, v, width + 0.24, height + 0.26, np.array(STONE) * 0.93)
    canvas.box(left, v, width, height, frame)
    canvas.box(left + 0.06, v + 0.06, width - 0.12, height - 0.12, np.array(GLASS) * rng.uniform(0.6, 1.3))
    kind = rng.integers(4)
    cloth = np.array(bright(rng)[0]) * 0.6 + 70
    if kind == 0:
        drop = height * rng.uniform(0.25, 0.75)
        canvas.box(left + 0.06, v + height - drop, width - 0.12, drop - 0.06, cloth)
    elif kind == 1:
        canvas.box(left + 0.06, v + 0.06, width * rng.uniform(0.15, 0.35), height - 0.12, cloth)
        canvas.box(left + width * 0.72, v + 0.06, width * 0.22, height - 0.12, cloth)
    else:
        low, high = sorted(rng.uniform(0.05, 0.95, 2) * height)
        canvas.polygon([(left + 0.06, v + low), (left + width - 0.06, v + high),
                        (left + width - 0.06, v + min(high + 0.5, height - 0.06)),
                        (left + 0.06, v + min(low + 0.5, height - 0.06))], (128, 152, 178))
    for i in range(1, panes[0]):
        canvas.box(left + width * i / panes[0] - 0.025, v, 0.05, height, frame)
    for i in range(1, panes[1]):
        canvas.box(left, v + height * i / panes[1] - 0.025, width, 0.05, frame)


def stained_window(canvas: Canvas, u: float, v: float, width: float, spring: float):
    """A tall pointed chapel window; each has its own colours."""
    rng = canvas.rng
    canvas.arch(u, v - 0.2, width + 0.6, spring + 0.2, np.array(STONE) * 1.1, pointed=True)
    before = canvas.image.copy()
    canvas.arch(u, v, width, spring, (0, 0, 0), pointed=True)
    opening = (np.abs(canvas.image.astype(int) - before).sum(-1) > 150)
    grid_u, grid_v = canvas.grid()
    seeds = np.stack([rng.uniform(u - width / 2, u + width / 2, 40), rng.uniform(v, v + spring + width, 40)], -1)
    colours = np.array(bright(rng, 5), np.float32)[rng.integers(5, size=40)] * rng.uniform(0.35, 1.0, (40, 1))
    rows, columns = np.nonzero(opening)
    distance = np.hypot(grid_u[0, columns, None] - seeds[:, 0], grid_v[rows, 0, None] - seeds[:, 1])
    nearest = np.partition(distance, 1, axis=1)[:, :2]
    lead = np.clip((nearest[:, 1] - nearest[:, 0]) / 0.05, 0.15, 1)[:, None]
    canvas.image[rows, columns] = (colours[distance.argmin(1)] * lead).astype(np.uint8)
    for offset in (-width / 6, width / 6):
        canvas.box(u + offset - 0.05, v, 0.1, spring + width * 0.35, np.array(STONE) * 1.05)
    canvas.box(u - width / 2, v + spring * rng.uniform(0.3, 0.7), width, 0.1, np.array(STONE) * 1.05)


def door(canvas: Canvas, u: float, width: float, height: float, colour, number: str):
    """A panelled door with a frame, a fanlight and its number."""
    colour = np.array(colour)
    canvas.box(u - width / 2 - 0.25, 0, width + 0.5, height + 0.85, STONE)
    canvas.arch(u, height, width, 0.02, GLASS)
    for angle in np.linspace(0.5, np.pi - 0.5, 4):
        canvas.line([(u, height), (u + width / 2 * np.cos(angle), height + width / 2 * np.sin(angle))],
                    (230, 226, 214), 0.05)
    canvas.box(u - width / 2, 0, width, height, colour)
    for row in range(3):
        for side in (-1, 1):
            canvas.box(u + side * width / 4 - width / 6, 0.2 + row * height / 3.2, width / 3, height / 4, colour * 0.68)
    canvas.disc(u + width * 0.38, height * 0.45, 0.06, (222, 188, 80))
    canvas.text(u, height * 0.78, number, 0.2, (240, 228, 180))


def poster(canvas: Canvas, u: float, v: float, width: float, height: float, title: str):
    """A poster with a title and a few shapes of its own; (u, v) is its lower left corner."""
    rng = canvas.rng
    paper, *inks = bright(rng, 4)
    canvas.box(u, v, width, height, paper)
    for ink in inks[:2]:
        centre = u + width * rng.uniform(0.25, 0.75), v + height * rng.uniform(0.2, 0.55)
        if rng.random() < 0.5:
            canvas.disc(*centre, width * rng.uniform(0.12, 0.24), ink)
        else:
            corners = np.array(centre) + width * 0.28 * rng.uniform(-1, 1, (4, 2))
            canvas.polygon(corners, ink)
    canvas.box(u, v + height * 0.72, width, height * 0.28, inks[2])
    canvas.text(u + width / 2, v + height * 0.86, title, min(height * 0.16, width / len(title) * 1.0), paper)


def banner(canvas: Canvas, u: float, v: float, width: float, height: float, letters: str):
    """A hanging banner with letters one below the other; (u, v) is its lower centre."""
    cloth, stripe, ink = bright(canvas.rng, 3)
    canvas.polygon([(u - width / 2, v + width / 3), (u, v), (u + width / 2, v + width / 3),
                    (u + width / 2, v + height), (u - width / 2, v + height)], cloth)
    canvas.box(u - width / 2, v + height * 0.9, width, height * 0.06, stripe)
    for i, letter in enumerate(letters):
        canvas.text(u, v + height * (0.8 - 0.72 * i / len(letters)), letter, width * 0.42, ink)


def plaque(canvas: Canvas, u: float, v: float, text: str, height: float, board=(46, 52, 62), ink=(236, 214, 150)):
    """A name in large letters on a board, centred on (u, v)."""
    width = height * (0.95 * len(text) + 1)
    canvas.box(u - width / 2 - 0.05, v - height - 0.05, width + 0.1, 2 * height + 0.1, ink)
    canvas.box(u - width / 2, v - height, width, 2 * height, board)
    canvas.text(u, v, text, height, ink)


def clock(canvas: Canvas, u: float, v: float, radius: float):
    """A clock that shows ten to two."""
    canvas.disc(u, v, radius * 1.15, (196, 160, 70))
    canvas.disc(u, v, radius, (28, 44, 92))
    for hour in range(12):
        angle = hour * np.pi / 6
        inner = 0.62 if hour % 3 == 0 else 0.78
        canvas.line([(u + r * radius * np.sin(angle), v + r * radius * np.cos(angle)) for r in (inner, 0.95)],
                    (240, 216, 130), 0.09)
    for angle, length in ((-1.05, 0.8), (0.95, 0.55)):
        canvas.line([(u, v), (u + length * radius * np.sin(angle), v + length * radius * np.cos(angle))],
                    (250, 240, 210), 0.1)
