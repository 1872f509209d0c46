"""The surfaces of the court: four different walls, the ground, and the materials of what stands on it."""

import numpy as np

from aprloc_ros.training.place import fittings
from aprloc_ros.training.place.leaves import crown
from aprloc_ros.training.place.texture import Canvas, seamless

LENGTH_M, WIDTH_M = 30.0, 22.0      # inside of the court, x from -15 to 15 and y from -11 to 11
ARCADE_DEPTH_M = 3.0                # behind the north front
NORTH_M, EAST_M, SOUTH_M, WEST_M, TOWER_M = 8.5, 7.0, 9.5, 8.0, 14.5    # heights of the walls
BAY_M = 3.0                         # pitch of the arcade
LIMESTONE = [(208, 190, 150), (196, 178, 138), (216, 200, 164), (186, 170, 134)]
SANDSTONE = [(178, 118, 92), (192, 134, 104), (164, 106, 84), (184, 142, 118)]
ASHLAR = [(164, 164, 158), (150, 152, 150), (176, 172, 162), (140, 142, 142)]
BRICK = [(154, 70, 52), (168, 84, 60), (138, 60, 48), (176, 98, 70), (120, 58, 50)]


def arcade_front(rng, texel_m: float) -> Canvas:
    """North: limestone above the arches, a window a bay, banners and the name."""
    canvas = Canvas(rng, LENGTH_M, NORTH_M, texel_m)
    canvas.masonry(0.32, 0.75, LIMESTONE, (150, 138, 112), bond=0)
    canvas.weather()
    for bay in range(10):
        u = BAY_M * (bay + 0.5)
        canvas.arch(u, 0, 2.66, 2.3, (226, 212, 178))
        canvas.box(u - 0.16, 3.4, 0.32, 0.42, (170, 150, 112))
        if bay not in (2, 7):
            fittings.sash_window(canvas, u, 4.9, 1.1 + 0.2 * (bay % 3), 2.1 + 0.15 * (bay % 2), (2, 3 + bay % 2))
    for u, letters in ((7.5, 'ARTS'), (22.5, 'MDCL')):
        fittings.banner(canvas, u, 4.35, 1.3, 3.7, letters)
    for u, label in ((3.0, 'A'), (9.0, 'B'), (12.0, 'C'), (18.0, 'D'), (21.0, 'E'), (27.0, 'F')):
        canvas.disc(u, 5.8, 0.48, fittings.bright(rng)[0])
        canvas.text(u, 5.8, label, 0.5, (250, 246, 232))
    canvas.box(0, 4.05, LENGTH_M, 0.22, (224, 210, 176))
    canvas.box(0, NORTH_M - 0.4, LENGTH_M, 0.4, (180, 164, 128))
    fittings.plaque(canvas, 15.0, 4.55, 'LIBRARY', 0.26, board=(92, 30, 34))
    return canvas


def arcade_back(rng, texel_m: float) -> Canvas:
    """North: the wall within the arcade, plaster with doors and notice boards."""
    canvas = Canvas(rng, LENGTH_M, 4.2, texel_m, (206, 178, 128))
    canvas.box(0, 0, LENGTH_M, 1.1, (112, 62, 48))
    canvas.weather(0.09)
    for u, number in ((4.5, '1'), (10.5, '2'), (16.5, '3'), (25.5, '4')):
        fittings.door(canvas, u, 1.3, 2.3, fittings.bright(rng)[0], number)
    for board, u in enumerate((1.0, 6.3, 12.4, 18.2, 21.4, 27.3)):
        canvas.box(u - 0.1, 1.2, 2.1, 1.7, (84, 58, 40))
        for sheet in range(3):
            title = ('CHOIR', 'ROWING', 'CHESS', 'LECTURE', 'BALL', 'DEBATE')[(board + 2 * sheet) % 6]
            low = 1.3 + 0.1 * rng.integers(3)
            fittings.poster(canvas, u + 0.02 + sheet * 0.65, low, 0.58, 1.25, title)
    return canvas


def gate_wall(rng, texel_m: float) -> Canvas:
    """East: red sandstone on both sides of the tower."""
    canvas = Canvas(rng, WIDTH_M, EAST_M, texel_m)
    canvas.masonry(0.28, 0.62, SANDSTONE, (206, 186, 160), bond=0)
    canvas.weather()
    for i, u in enumerate((1.8, 5.0, 17.0, 20.2)):
        fittings.sash_window(canvas, u, 1.1 + 0.1 * i, 1.2, 1.9, (3, 2), (42, 74, 62))
        fittings.sash_window(canvas, u, 4.4, 1.0, 1.5, (2, 2), (42, 74, 62))
    fittings.poster(canvas, 2.9, 0.9, 1.0, 1.5, 'OPERA')
    fittings.poster(canvas, 18.1, 1.0, 1.1, 1.4, 'REGATTA')
    fittings.plaque(canvas, 3.5, 3.65, 'PORTER', 0.2)
    fittings.plaque(canvas, 18.6, 3.75, 'HALL', 0.3, board=(24, 72, 60))
    canvas.ivy(6.3, 2.6, 5.2)
    canvas.box(0, EAST_M - 0.3, WIDTH_M, 0.3, (212, 194, 168))
    return canvas


def tower_front(rng, texel_m: float) -> Canvas:
    """East: the gate tower with its clock, corner stones and arms."""
    canvas = Canvas(rng, 6.0, TOWER_M, texel_m)
    canvas.masonry(0.11, 0.3, BRICK, (196, 184, 166))
    canvas.weather()
    for course in range(int(TOWER_M / 0.5)):
        width = 0.55 if course % 2 else 0.85
        for left in (0.0, 6.0 - width):
            canvas.box(left, course * 0.5 + 0.02, width, 0.46, LIMESTONE[rng.integers(4)])
    canvas.arch(3.0, 0, 3.9, 2.6, (214, 196, 156))
    for v in (5.0, 9.2, TOWER_M - 0.5):
        canvas.box(0, v, 6.0, 0.3, (220, 204, 168))
    canvas.polygon([(2.2, 8.4), (3.8, 8.4), (3.8, 7.0), (3.0, 6.0), (2.2, 7.0)], (196, 44, 40))
    canvas.polygon([(2.2, 8.4), (3.0, 8.4), (3.0, 6.0), (2.2, 7.0)], (236, 190, 50))
    canvas.text(3.0, 7.4, 'XIV', 0.6, (30, 34, 48))
    for u in (1.3, 4.7):
        fittings.sash_window(canvas, u, 5.8, 0.9, 2.2, (2, 4))
    fittings.clock(canvas, 3.0, 11.3, 1.35)
    fittings.banner(canvas, 0.95, 1.3, 0.62, 2.9, 'OPEN')
    fittings.poster(canvas, 4.75, 1.0, 0.72, 1.2, 'RULES')
    return canvas


def chapel_wall(rng, texel_m: float) -> Canvas:
    """South: grey ashlar with stained windows between the buttresses."""
    canvas = Canvas(rng, LENGTH_M, SOUTH_M, texel_m)
    canvas.masonry(0.4, 0.9, ASHLAR, (112, 112, 108), bond=0)
    canvas.weather(0.09)
    for i, u in enumerate((5.0, 9.0, 13.0, 17.0, 21.0, 25.0)):
        if i == 3:
            fittings.door(canvas, u, 1.7, 2.6, (58, 92, 60), '9')
            fittings.plaque(canvas, u, 4.2, 'CHAPEL', 0.3, board=(70, 60, 96))
            canvas.disc(u, 6.6, 1.35, np.array(fittings.STONE) * 1.1)
            for angle in np.linspace(0, 2 * np.pi, 9)[:-1]:
                canvas.disc(u + 0.8 * np.cos(angle), 6.6 + 0.8 * np.sin(angle), 0.3, fittings.bright(rng)[0])
            canvas.disc(u, 6.6, 0.42, (236, 190, 50))
        else:
            fittings.stained_window(canvas, u, 2.5 - 0.2 * (i % 2), 1.9 + 0.2 * (i % 3), 3.3)
    for u, text in ((1.6, 'ANNO 1511'), (28.4, 'PAX')):
        fittings.plaque(canvas, u, 2.3, text, 0.2, board=(150, 132, 88), ink=(40, 36, 30))
    for u in (9.0, 13.0, 25.0):
        fittings.poster(canvas, u - 0.5, 0.45, 0.9, 1.3, rng.choice(['ORGAN', 'MASS', 'BACH']))
    canvas.box(0, 2.0, LENGTH_M, 0.14, (190, 186, 174))
    canvas.box(0, SOUTH_M - 0.5, LENGTH_M, 0.5, (178, 174, 162))
    return canvas


def house_wall(rng, texel_m: float) -> Canvas:
    """West: brick lodgings with white sashes, a blue door and ivy."""
    canvas = Canvas(rng, WIDTH_M, WEST_M, texel_m)
    canvas.masonry(0.1, 0.28, BRICK, (190, 176, 158))
    canvas.weather(0.1)
    for i, u in enumerate((1.7, 4.7, 7.6, 14.4, 17.3, 20.3)):
        fittings.sash_window(canvas, u, 1.1, 1.25, 2.0 + 0.1 * (i % 2), (2, 4))
        fittings.sash_window(canvas, u, 4.7, 1.25, 1.9, (2 + i % 2, 3))
    fittings.door(canvas, 11.0, 1.5, 2.4, (32, 64, 132), '7')
    fittings.plaque(canvas, 11.0, 3.95, 'MASTER', 0.24)
    fittings.sash_window(canvas, 11.0, 4.9, 1.9, 1.9, (4, 3))
    canvas.ivy(18.8, 5.0, 6.6)
    canvas.ivy(0.2, 2.4, 4.2)
    fittings.banner(canvas, 6.15, 3.1, 0.9, 4.0, 'BLUE')
    fittings.poster(canvas, 8.9, 0.8, 0.9, 1.4, 'MUSIC')
    canvas.box(0, 3.75, 4.5, 0.16, fittings.STONE)
    canvas.box(0, WEST_M - 0.3, WIDTH_M, 0.3, fittings.STONE)
    return canvas


def ground(rng, texel_m: float) -> Canvas:
    """Four mown lawns, gravel paths that cross at the fountain, paving around. Its corner is (-15, -11)."""
    canvas = Canvas(rng, LENGTH_M + 3, WIDTH_M + ARCADE_DEPTH_M, texel_m)
    canvas.masonry(0.6, 0.9, [(158, 150, 136), (146, 140, 130), (170, 160, 142), (136, 132, 126)], (96, 92, 84), bond=0)
    canvas.grain(1.5, 0.07)
    u, v = canvas.grid()
    x, y = u - LENGTH_M / 2, v - WIDTH_M / 2
    gravel = np.array([188, 166, 124]) * (1 + 0.1 * canvas.noise(0.06, 2) + 0.05 * canvas.noise(2.0))[..., None]
    inside = _ramp(12.2 - np.abs(x), texel_m) * _ramp(8.6 - np.abs(y), texel_m)
    canvas.blend(inside, gravel)
    for quadrant, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        along = (x, y, x + y, x - 0.6 * y)[quadrant] + 0.04 * canvas.noise(1.0)
        stripe = 1 + 0.17 * np.tanh(6 * np.sin(along * np.pi / (0.9 + 0.15 * quadrant)))
        tint = np.array([(84, 128, 50), (96, 130, 46), (74, 118, 54), (102, 134, 60)][quadrant])
        grass = tint * (stripe * (1 + 0.17 * canvas.noise(0.07, 2) + 0.08 * canvas.noise(2.5)))[..., None]
        edge = np.minimum(np.minimum(sx * x - 1.3, sy * y - 1.3), np.minimum(11.3 - sx * x, 7.7 - sy * y))
        edge = np.minimum(edge, np.hypot(x, y) - 4.2)
        canvas.blend(_ramp(edge + 0.12, texel_m), np.array([152, 146, 132]))
        canvas.blend(_ramp(edge, texel_m), grass)
        daisies = np.clip(canvas.noise(1.5) - 1.2, 0, 0.8) * (canvas.noise(0.08, 1) > 0)
        canvas.blend(daisies * (edge > 0.1), np.array([226, 220, 170]))
    _markings(canvas)
    wall = np.minimum(LENGTH_M / 2 - np.abs(x), np.minimum(y + WIDTH_M / 2, np.abs(y - WIDTH_M / 2) + 0.3))
    canvas.modulate(1 - 0.35 * np.exp(-np.maximum(wall, 0) / 0.4))
    return canvas


def _ramp(distance_m: np.ndarray, texel_m: float) -> np.ndarray:
    """1 inside, 0 outside, antialiased over one texel."""
    return np.clip(distance_m / texel_m + 0.5, 0, 1)


def _markings(canvas: Canvas):
    """A compass rose, drain covers and fallen leaves."""
    rng = canvas.rng
    for i in range(16):
        angle, radius = i * np.pi / 8, (4.0, 3.1)[i % 2]
        tip = 15 + radius * np.cos(angle), 11 + radius * np.sin(angle)
        base = [(15 + 2.3 * np.cos(angle + d), 11 + 2.3 * np.sin(angle + d)) for d in (-0.17, 0.17)]
        canvas.polygon([tip, *base], (120, 48, 40) if i % 4 == 0 else (66, 76, 92))
    for angle, letter in enumerate('ENWS'):
        canvas.text(15 + 4.6 * np.cos(angle * np.pi / 2), 11 + 4.6 * np.sin(angle * np.pi / 2), letter, 0.55,
                    (96, 40, 36))
    for u, v in ((1.4, 1.2), (9.0, 20.3), (21.0, 1.1), (28.6, 19.2), (28.4, 4.4), (1.2, 14.0)):
        canvas.box(u - 0.4, v - 0.3, 0.8, 0.6, (58, 58, 62))
        for bar in range(5):
            canvas.box(u - 0.32 + bar * 0.14, v - 0.22, 0.07, 0.44, (24, 24, 26))
    for _ in range(500):
        canvas.disc(rng.uniform(0, LENGTH_M), rng.uniform(0, WIDTH_M), rng.uniform(0.03, 0.07),
                    np.array((176, 116, 48)) * rng.uniform(0.6, 1.2))


def _plain(rng, texel_m: float, colour, coarse: float, fine: float) -> np.ndarray:
    """One colour, varied in patches of a metre and in grains of a few centimetres."""
    canvas = Canvas(rng, 2, 2, texel_m, colour)
    canvas.modulate(1 + coarse * canvas.noise(1.0) + fine * canvas.noise(0.06, 2))
    return seamless(canvas.image)


def materials(rng, texel_m: float) -> dict[str, np.ndarray]:
    """Tiles [H, W, 3] uint8 that repeat without a seam, by name."""
    tiles = {name: _plain(rng, texel_m, *numbers) for name, numbers in {
        'stone': ((200, 188, 160), 0.05, 0.06), 'bronze': ((70, 112, 96), 0.12, 0.12),
        'iron': ((44, 48, 50), 0.08, 0.06), 'paint': ((226, 226, 226), 0.03, 0.04),
        'water': ((84, 122, 138), 0.1, 0.1)}.items()}
    for name, colour in (('leaves', (92, 128, 50)), ('dark leaves', (62, 100, 56)), ('blossom', (222, 164, 176))):
        tiles[name] = crown(rng, texel_m, colour)
    brick = Canvas(rng, 3, 3, texel_m)
    brick.masonry(0.1, 0.3, BRICK, (196, 184, 166))
    brick.grain(1.5, 0.08)
    tiles['brick'] = brick.image
    bark = Canvas(rng, 2, 2, texel_m, (104, 86, 66))
    rows = bark.image.shape[0]
    bark.modulate(1 + 0.2 * np.tile(bark.noise(0.1, 2)[:1], (rows, 1)) + 0.15 * bark.noise(0.2))
    tiles['bark'] = seamless(bark.image)
    wood = Canvas(rng, 2, 2, texel_m)
    wood.masonry(0.2, 2.0, [(134, 92, 56), (120, 80, 48), (146, 104, 66)], (60, 40, 26), 0.03)
    wood.grain(0.4, 0.1)
    tiles['wood'] = seamless(wood.image)
    for name, colours in (('slate', [(82, 90, 104), (70, 76, 90), (98, 102, 112)]),
                          ('clay', [(158, 84, 58), (142, 72, 52), (172, 100, 70)])):
        roof = Canvas(rng, 6, 6, texel_m)
        roof.masonry(0.3, 0.3, colours, (44, 40, 42), 0.05)
        roof.grain(1.5, 0.1)
        tiles[name] = seamless(roof.image)
    return tiles


def sky(rng, size: int, cloudiness: float) -> np.ndarray:
    """The sky by angle from the zenith (centre) to the horizon and a little below (rim), [size, size, 3] uint8.

    cloudiness: -1 for hardly a cloud, above 1 for no blue.
    """
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    radius = np.minimum(np.hypot(x, y), 1)[..., None]
    blue = np.array([96, 146, 214]) * (1 - radius ** 1.5) + np.array([196, 214, 232]) * radius ** 1.5
    canvas = Canvas(rng, 2, 2, 2 / size)
    clouds = np.clip(0.9 * canvas.noise(0.55, 5) + cloudiness, 0, 1)[..., None]
    shade = np.clip(canvas.noise(0.3, 3), -1.5, 1.5)[..., None]
    return np.clip(blue + clouds * (np.array([246, 246, 244]) - 9 * shade - blue), 0, 255).astype(np.uint8)
