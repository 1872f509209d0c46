"""What a ray can hit: panels, boxes, ellipsoids and upright cylinders, each with its own closed form.

Points and directions are triples (x, y, z) whose members are floats or float32 arrays of one shape, so that one
set of formulas serves a camera (one origin), the sun (one direction) and single rays.
"""

from dataclasses import dataclass

import numpy as np

UNTINTED = (1.0, 1.0, 1.0)
NEAR = 0.05  # in units of the ray's direction: closer hits are not seen


def dot(axis, xyz):
    """Sum of products; members of `axis` are floats, and zeros cost nothing."""
    terms = [c if a == 1 else a * c for a, c in zip(axis, xyz) if a]
    return sum(terms[1:], terms[0])


def axes_from_yaw(yaw: float) -> tuple:
    """Axes of a body turned about the vertical, as rows in world coordinates."""
    c, s = float(np.cos(yaw)), float(np.sin(yaw))
    return (c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0)


UPRIGHT = axes_from_yaw(0.0)


@dataclass(frozen=True)
class Arches:
    """Round-headed openings in a panel: the first one's centre, their pitch and number, in metres along u."""

    first: float
    pitch: float
    count: int
    half_width: float
    spring: float

    def contain(self, u, v):
        """Whether points (u, v) of the panel lie in an opening."""
        bay = np.clip(np.round((u - self.first) / self.pitch), 0, self.count - 1)
        across = np.abs(u - self.first - bay * self.pitch)
        rise = np.maximum(v - self.spring, 0)
        return across * across + rise * rise < self.half_width ** 2


@dataclass(frozen=True)
class Panel:
    """A flat rectangle from `corner` along the unit vectors u and v; its texture covers it once, v up."""

    texture: str
    corner: tuple
    u: tuple
    v: tuple
    width: float
    height: float
    arches: Arches | None = None
    tint: tuple = UNTINTED

    @property
    def normal(self) -> tuple:
        return tuple(np.cross(self.u, self.v).tolist())

    def corners(self) -> np.ndarray:
        """[8, 3] of a box around it."""
        grid = [[self.width * a, self.height * b] for a in (0, 1) for b in (0, 1)]
        return np.tile(np.array(self.corner) + np.array(grid) @ np.array([self.u, self.v]), (2, 1))

    def intersect(self, origin, direction):
        """Ray parameter of the nearest hit beyond NEAR, infinity for a miss."""
        normal = self.normal
        t = (dot(normal, self.corner) - dot(normal, origin)) / dot(normal, direction)
        u = dot(self.u, origin) - dot(self.u, self.corner) + t * dot(self.u, direction)
        v = dot(self.v, origin) - dot(self.v, self.corner) + t * dot(self.v, direction)
        hit = (t > NEAR) & (u >= 0) & (u <= self.width) & (v >= 0) & (v <= self.height)
        if self.arches:
            hit &= ~self.arches.contain(u, v)
        return np.where(hit, t, np.inf)

    def surface(self, point):
        """Normal (x, y, z) and texture coordinates (u, v) in metres at points on it."""
        return (self.normal, dot(self.u, point) - dot(self.u, self.corner),
                dot(self.v, point) - dot(self.v, self.corner))


@dataclass(frozen=True)
class Body:
    """What boxes and ellipsoids share: a centre, half extents along its own axes, and those axes."""

    texture: str
    centre: tuple
    half: tuple
    axes: tuple = UPRIGHT
    tint: tuple = UNTINTED

    def corners(self) -> np.ndarray:
        """[8, 3] of a box around it."""
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
        return np.array(self.centre) + (signs * self.half) @ np.array(self.axes)

    def _local(self, origin, direction):
        start = [dot(axis, origin) - dot(axis, self.centre) for axis in self.axes]
        return start, [dot(axis, direction) for axis in self.axes]

    def _to_world(self, xyz):
        return tuple(dot(column, xyz) for column in zip(*self.axes))

    def _faces(self, point):
        """Own coordinates [3, ...], the axis of the nearest face [...], texture coordinates on that face."""
        local = np.stack([dot(axis, point) - dot(axis, self.centre) for axis in self.axes])
        face = np.abs(local / np.reshape(self.half, (3, *[1] * (local.ndim - 1))).astype(np.float32)).argmax(0)
        x, y, z = local
        shift = 0.37 * self.centre[0] + 0.73 * self.centre[1]
        return local, face, np.where(face == 0, y, x) + shift, np.where(face == 2, y, z) + self.centre[2]


class Box(Body):
    """A box."""

    def intersect(self, origin, direction):
        """As Panel.intersect; from inside, nothing."""
        enter, leave = -np.inf, np.inf
        for start, step, half in zip(*self._local(origin, direction), self.half):
            first, second = (-half - start) / step, (half - start) / step
            enter = np.maximum(enter, np.minimum(first, second))
            leave = np.minimum(leave, np.maximum(first, second))
        return np.where((enter <= leave) & (enter > NEAR), enter, np.inf)

    def surface(self, point):
        """As Panel.surface."""
        local, face, u, v = self._faces(point)
        return self._to_world([np.sign(local[i]) * (face == i) for i in range(3)]), u, v


class Ellipsoid(Body):
    """An ellipsoid."""

    def intersect(self, origin, direction):
        """As Panel.intersect; from inside, nothing."""
        start, step = self._local(origin, direction)
        start = [s / h for s, h in zip(start, self.half)]
        step = [s / h for s, h in zip(step, self.half)]
        a, b, c = dot_arrays(step, step), dot_arrays(start, step), dot_arrays(start, start) - 1
        t = (-b - np.sqrt(b * b - a * c)) / a
        return np.where(t > NEAR, t, np.inf)  # NaN where the ray misses compares false

    def surface(self, point):
        """As Panel.surface."""
        local, _, u, v = self._faces(point)
        normal = [x / h ** 2 for x, h in zip(local, self.half)]
        length = np.sqrt(dot_arrays(normal, normal))
        return self._to_world([x / length for x in normal]), u, v


def dot_arrays(first, second):
    """Sum of products of two triples."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder with a lid, standing on `base`."""

    texture: str
    base: tuple
    radius: float
    height: float
    tint: tuple = UNTINTED

    def corners(self) -> np.ndarray:
        """[8, 3] of a box around it."""
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (0, 1)])
        return np.array(self.base) + signs * [self.radius, self.radius, self.height]

    def intersect(self, origin, direction):
        """As Panel.intersect; from inside or below, nothing."""
        x, y, z = (o - b for o, b in zip(origin, self.base))
        dx, dy, dz = direction
        a, b, c = dx * dx + dy * dy, x * dx + y * dy, x * x + y * y - self.radius ** 2
        side = (-b - np.sqrt(b * b - a * c)) / a
        rise = z + side * dz
        side = np.where((side > NEAR) & (rise >= 0) & (rise <= self.height), side, np.inf)
        lid = (self.height - z) / dz
        across = (x + lid * dx) ** 2 + (y + lid * dy) ** 2
        lid = np.where((lid > NEAR) & (z > self.height) & (across <= self.radius ** 2), lid, np.inf)
        return np.minimum(side, lid)

    def surface(self, point):
        """As Panel.surface."""
        x, y, z = (p - b for p, b in zip(point, self.base))
        is_lid = (z > self.height - 1e-3) & (x * x + y * y < (0.999 * self.radius) ** 2)
        side = np.where(is_lid, 0, 1 / self.radius)
        around = self.radius * np.arctan2(y, x) + self.base[0]
        return ((x * side, y * side, is_lid.astype(np.float32)),
                np.where(is_lid, x, around), np.where(is_lid, y, z + self.base[2]))
