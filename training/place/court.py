"""The demo place: a college court of 30 m x 22 m. x points east, y north, z up; the fountain stands at the origin."""

import math

import numpy as np

from aprloc_ros.training.place import facades, fittings, leaves
from aprloc_ros.training.place.days import TODAY, Day
from aprloc_ros.training.place.facades import (
    ARCADE_DEPTH_M,
    BAY_M,
    EAST_M,
    LENGTH_M,
    NORTH_M,
    SOUTH_M,
    TOWER_M,
    WEST_M,
    WIDTH_M,
)
from aprloc_ros.training.place.raycast import GLOWING, Scene
from aprloc_ros.training.place.solids import Arches, Box, Cylinder, Ellipsoid, Panel, axes_from_yaw
from aprloc_ros.training.place.standing import standing
from aprloc_ros.training.place.texture import Canvas

X, Y = LENGTH_M / 2, WIDTH_M / 2
TOWER_X, GATE_END_X = 13.4, 17.0
FOUNTAIN_RADIUS_M = 2.2
EAST, NORTH, WEST, SOUTH, UP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)
# (x, y, height of the crown's centre, its radius, leaves) of each tree
TREES = ((-6.8, 4.3, 3.5, 1.6, 'leaves'), (6.4, 5.0, 3.9, 1.8, 'dark leaves'), (7.6, -4.3, 3.1, 1.4, 'blossom'),
         (-8.0, -4.2, 4.3, 1.9, 'leaves'), (-3.9, -6.3, 2.7, 1.1, 'dark leaves'))
LAMP_M = 3.15
LAMPS = ((-11.7, 8.1), (11.7, 8.1), (11.7, -8.1), (-11.7, -8.1), (0.0, 8.1))


def build_court(seed: int = 0, texel_m: float = 0.02, day: Day = TODAY) -> Scene:
    """The scene of a seed on a day; a coarser texel makes it cheaper to build."""
    rngs = map(np.random.default_rng, np.random.SeedSequence([seed, 101]).spawn(16))
    canvases = {
        'ground': facades.ground(next(rngs), texel_m), 'north': facades.arcade_front(next(rngs), texel_m),
        'north back': facades.arcade_back(next(rngs), texel_m), 'east': facades.gate_wall(next(rngs), texel_m),
        'tower': facades.tower_front(next(rngs), texel_m), 'south': facades.chapel_wall(next(rngs), texel_m),
        'west': facades.house_wall(next(rngs), texel_m), 'gate': _gate_doors(next(rngs), texel_m)}
    for name, titles in (('board 1', ('TERM', 'EXAMS')), ('board 2', ('FILM', 'GARDEN'))):
        canvases[name] = _posters(next(rngs), texel_m, titles)
    materials = facades.materials(next(rngs), texel_m)
    if day.is_autumn:
        materials |= _autumn(np.random.default_rng([seed, 102, day.number]), texel_m, canvases['ground'])
    textures = {name: canvas.image for name, canvas in canvases.items()} | materials
    todays_sky, rng = next(rngs), next(rngs)
    clouds = todays_sky if day == TODAY else np.random.default_rng([seed, 105, day.number])
    textures['sky'] = facades.sky(clouds, 1024, day.cloudiness)
    if day.lamps:   # today without: where a tile lies in the atlas moves its last bits
        textures[GLOWING] = materials['paint']
    solids = [*_walls(), *_tower(), *_roofs(), *_fountain(), *standing(day, seed), *_furniture(bool(day.lamps))]
    for tree in TREES:
        solids += _tree(rng, *tree)
    lamps = tuple((x, y, LAMP_M) for x, y in LAMPS) if day.lamps else ()
    return Scene(tuple(solids), textures, texel_m, day, lamps, seed)


def _autumn(rng, texel_m: float, ground: Canvas) -> dict:
    """Crowns that have turned, by name of the leaves; draws those that fell on the ground."""
    leaves.fall(rng, ground, [(x + X, y + Y, name) for x, y, _, _, name in TREES])
    return {name: leaves.crown(rng, texel_m, colour) for name, colour in leaves.AUTUMN.items()}


def _gate_doors(rng, texel_m: float) -> Canvas:
    canvas = Canvas(rng, 3.0, 4.2, texel_m, (116, 84, 56))
    for plank in range(12):
        canvas.box(plank * 0.25, 0, 0.23, 4.2, np.array((122, 78, 44)) * rng.uniform(0.8, 1.15))
    for v in (0.6, 2.0, 3.4):
        canvas.box(0, v, 3.0, 0.14, (44, 44, 46))
    canvas.box(1.48, 0, 0.04, 4.2, (30, 22, 16))
    fittings.poster(canvas, 0.5, 1.0, 0.6, 0.85, 'SHUT')
    return canvas


def _posters(rng, texel_m: float, titles) -> Canvas:
    canvas = Canvas(rng, 1.7, 1.15, texel_m, (178, 142, 96))
    for i, title in enumerate(titles):
        fittings.poster(canvas, 0.1 + 0.8 * i, 0.1, 0.7, 0.95, title)
    return canvas


def _walls() -> list:
    gate = Arches(Y, WIDTH_M, 1, 1.5, 2.6)
    bays = Arches(BAY_M / 2, BAY_M, round(LENGTH_M / BAY_M), 1.17, 2.3)
    back = Y + ARCADE_DEPTH_M
    solids = [
        Panel('ground', (-X, -Y, 0.0), EAST, NORTH, LENGTH_M + 3, WIDTH_M + ARCADE_DEPTH_M),
        Panel('north', (-X, Y, 0.0), EAST, UP, LENGTH_M, NORTH_M, bays),
        Panel('north back', (-X, back, 0.0), EAST, UP, LENGTH_M, 4.2),
        Panel('stone', (-X, Y, 4.1), EAST, NORTH, LENGTH_M, ARCADE_DEPTH_M),
        Panel('brick', (-X, Y, 0.0), NORTH, UP, ARCADE_DEPTH_M, 4.2),
        Panel('brick', (X, back, 0.0), SOUTH, UP, ARCADE_DEPTH_M, 4.2),
        Panel('east', (X, Y, 0.0), SOUTH, UP, WIDTH_M, EAST_M, gate),
        Panel('south', (X, -Y, 0.0), WEST, UP, LENGTH_M, SOUTH_M),
        Panel('west', (-X, -Y, 0.0), NORTH, UP, WIDTH_M, WEST_M)]
    for pier in range(1, round(LENGTH_M / BAY_M)):
        x = -X + BAY_M * pier
        solids += [Cylinder('stone', (x, Y - 0.12, 0.0), 0.24, 2.3),
                   Box('stone', (x, Y - 0.12, 2.4), (0.34, 0.3, 0.12)),
                   Box('stone', (x, Y - 0.12, 0.15), (0.34, 0.3, 0.15))]
    for x in (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0):
        solids += [Box('stone', (x, -Y + 0.45, 2.6), (0.4, 0.45, 2.6), tint=(0.8, 0.82, 0.86)),
                   Box('stone', (x, -Y + 0.25, 6.4), (0.3, 0.25, 1.2), tint=(0.8, 0.82, 0.86))]
    solids += [Box('stone', (-X + 0.5, 0.0, 0.12), (0.5, 1.1, 0.12)),
               Box('stone', (-2.0, -Y + 0.5, 0.1), (1.2, 0.5, 0.1))]
    return solids


def _tower() -> list:
    gate = Arches(3.0, 6.0, 1, 1.5, 2.6)
    deep = GATE_END_X - TOWER_X
    solids = [
        Panel('tower', (TOWER_X, 3.0, 0.0), SOUTH, UP, 6.0, TOWER_M, gate),
        Panel('brick', (TOWER_X, -3.0, 0.0), EAST, UP, 6.0, TOWER_M),
        Panel('brick', (TOWER_X, 3.0, 0.0), EAST, UP, 6.0, TOWER_M),
        Panel('stone', (TOWER_X, -1.5, 0.0), EAST, UP, deep, 4.2),
        Panel('stone', (TOWER_X, 1.5, 0.0), EAST, UP, deep, 4.2),
        Panel('wood', (TOWER_X, -1.5, 4.1), EAST, NORTH, deep, 3.0),
        Panel('gate', (GATE_END_X, 1.5, 0.0), SOUTH, UP, 3.0, 4.2)]
    for y in (-2.7, -1.35, 0.0, 1.35, 2.7):
        solids.append(Box('stone', (TOWER_X + 0.3, y, TOWER_M + 0.4), (0.3, 0.35, 0.45)))
    for y in (-3.0, 3.0):
        solids += [Cylinder('stone', (TOWER_X, y, 0.0), 0.45, TOWER_M + 1.6),
                   Ellipsoid('bronze', (TOWER_X, y, TOWER_M + 1.6), (0.55, 0.55, 1.0))]
    return solids


def _roofs() -> list:
    def roof(texture, corner, along, outward, length, rise_deg, height):
        c, s = math.cos(math.radians(rise_deg)), math.sin(math.radians(rise_deg))
        return Panel(texture, corner, along, tuple(c * o + s * z for o, z in zip(outward, UP)), length, height)

    solids = [roof('clay', (-X, Y, NORTH_M), EAST, NORTH, LENGTH_M, 38, 4.5),
              roof('slate', (X, Y, EAST_M), SOUTH, EAST, WIDTH_M, 40, 3.5),
              roof('slate', (X, -Y, SOUTH_M), WEST, SOUTH, LENGTH_M, 50, 4.5),
              roof('clay', (-X, -Y, WEST_M), NORTH, WEST, WIDTH_M, 42, 4.0)]
    for x, y, z in ((-10.0, 13.0, 10.5), (4.5, 13.0, 10.5), (16.3, -7.5, 8.6), (-16.5, -5.0, 10.0), (-16.5, 6.5, 10.0)):
        solids += [Box('brick', (x, y, z), (0.7, 0.45, 1.6)), Cylinder('clay', (x - 0.3, y, z + 1.6), 0.16, 0.6),
                   Cylinder('clay', (x + 0.3, y, z + 1.6), 0.16, 0.6)]
    for x in (-14.0, 14.0):
        solids.append(Box('stone', (x, -12.0, SOUTH_M + 1.5), (0.6, 0.6, 2.6)))
    return solids


def _fountain() -> list:
    turned = axes_from_yaw(0.6)
    return [
        Cylinder('stone', (0.0, 0.0, 0.0), FOUNTAIN_RADIUS_M + 0.25, 0.14),
        Cylinder('stone', (0.0, 0.0, 0.0), FOUNTAIN_RADIUS_M, 0.55),
        Cylinder('water', (0.0, 0.0, 0.0), FOUNTAIN_RADIUS_M - 0.3, 0.56),
        Cylinder('stone', (0.0, 0.0, 0.0), 0.34, 1.25), Ellipsoid('stone', (0.0, 0.0, 1.3), (0.95, 0.95, 0.22)),
        Box('stone', (0.0, 0.0, 1.75), (0.34, 0.34, 0.35), turned),
        Ellipsoid('bronze', (0.0, 0.0, 2.5), (0.2, 0.32, 0.62), turned),
        Ellipsoid('bronze', (0.0, 0.0, 3.0), (0.22, 0.4, 0.2), turned),
        Ellipsoid('bronze', (0.0, 0.0, 3.32), (0.15, 0.14, 0.19), turned),
        Ellipsoid('bronze', (0.28, 0.36, 3.2), (0.09, 0.09, 0.45), axes_from_yaw(0.9)),
        Ellipsoid('bronze', (-0.2, -0.3, 2.65), (0.1, 0.12, 0.4), turned),
        Cylinder('bronze', (0.31, 0.4, 3.3), 0.025, 0.9)]


def _board(x: float, y: float, yaw: float, texture: str) -> list:
    """A notice board on two posts; it faces the direction yaw - 90 deg."""
    axes = axes_from_yaw(yaw)
    along, across, _ = (np.array(axis) for axis in axes)
    corner = np.array([x, y, 0.85]) - 0.85 * along - 0.05 * across
    posts = [np.array([x, y, 0.0]) + d * along for d in (-0.95, 0.95)]
    return [Box('wood', (x, y, 1.45), (0.95, 0.04, 0.7), axes), Box('slate', (x, y, 2.2), (1.1, 0.2, 0.05), axes),
            Panel(texture, tuple(corner.tolist()), axes[0], UP, 1.7, 1.15),
            *(Cylinder('wood', tuple(post.tolist()), 0.06, 2.2) for post in posts)]


def _furniture(is_lit: bool) -> list:
    solids = [*_board(-9.6, 8.0, 0.15, 'board 1'), *_board(10.2, -8.0, math.pi - 0.2, 'board 2')]
    for x, y in LAMPS:
        solids += [Cylinder('iron', (x, y, 0.0), 0.06, 3.0), Cylinder('iron', (x, y, 0.0), 0.12, 0.5),
                   Ellipsoid(GLOWING if is_lit else 'paint', (x, y, LAMP_M), (0.2, 0.2, 0.26), tint=(1.0, 0.96, 0.8))]
    solids += [Cylinder('paint', (-13.9, 7.4, 0.0), 0.28, 1.5, (0.75, 0.06, 0.05)),
               Ellipsoid('paint', (-13.9, 7.4, 1.5), (0.31, 0.31, 0.16), tint=(0.75, 0.06, 0.05)),
               Box('stone', (9.8, 1.0, 0.45), (0.3, 0.3, 0.45)),
               Ellipsoid('bronze', (9.8, 1.0, 1.2), (0.36, 0.36, 0.36)),
               Cylinder('stone', (-10.2, -0.4, 0.0), 0.22, 1.0), Cylinder('slate', (-10.2, -0.4, 1.0), 0.36, 0.08)]
    for x, y, tint in ((13.0, 4.2, (1.0, 0.5, 0.35)), (13.0, -4.2, (0.45, 0.55, 0.9)), (-14.2, -1.9, (0.9, 0.8, 0.4)),
                       (-14.2, 1.9, (0.9, 0.8, 0.4)), (13.9, 9.6, (0.6, 0.8, 0.6))):
        solids += [Box('stone', (x, y, 0.3), (0.42, 0.42, 0.3), tint=tint),
                   Ellipsoid('dark leaves', (x, y, 0.95), (0.5, 0.5, 0.55))]
    return solids


def _tree(rng, x: float, y: float, z: float, radius: float, leaves: str) -> list:
    """A trunk and a crown of overlapping ellipsoids."""
    solids = [Cylinder('bark', (x, y, 0.0), 0.1 + 0.06 * radius, z),
              Ellipsoid(leaves, (x, y, z), (0.8 * radius, 0.8 * radius, 0.75 * radius))]
    for k in range(7):
        angle, lift = 2 * math.pi * k / 7 + rng.uniform(-0.3, 0.3), rng.uniform(-0.45, 0.6)
        size = radius * rng.uniform(0.4, 0.58)
        reach = radius * rng.uniform(0.5, 0.68)
        shade = rng.uniform(0.8, 1.2)
        solids.append(Ellipsoid(leaves, (x + reach * math.cos(angle), y + reach * math.sin(angle), z + lift * radius),
                                (size, size, 0.8 * size), axes_from_yaw(angle), (shade, shade, 0.95 * shade)))
    return solids
