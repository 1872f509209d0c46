"""Radiance fields: four kinds of one interface, named in a map's manifest."""

import inspect
import math

from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.exposure import EXPOSURES, Exposure
from aprloc_ros.fields.field import Field
from aprloc_ros.fields.nefes import Nefes
from aprloc_ros.fields.nerf import Nerf, NerfHist
from aprloc_ros.fields.planes import PlaneField

KINDS = {'nerf': Nerf, 'nerf_hist': NerfHist, 'nefes': Nefes, 'planes': PlaneField}
_NONE_IF_ZERO = {'feature_channels', 'fusion_hidden'}


def build_field(kind: str, arguments: dict) -> Field:
    """A field of random weights. kind: one of KINDS; arguments: those of its class.

    Raises AprlocError for an unknown kind or argument, or a value the class cannot take.
    """
    if kind not in KINDS:
        raise AprlocError(f'field kind {kind!r} is not one of {", ".join(KINDS)}')
    allowed = inspect.signature(KINDS[kind]).parameters
    for key, value in arguments.items():
        if key not in allowed:
            raise AprlocError(f'field {kind}: unknown argument {key!r}; allowed: {", ".join(allowed)}')
        lowest = 0 if key in _NONE_IF_ZERO else 1
        if allowed[key].annotation is int and (type(value) is not int or value < lowest):
            raise AprlocError(f'field {kind}: {key} is {value!r}; it must be a whole number from {lowest}')
        if allowed[key].annotation is float and not (type(value) in (int, float) and 0 < value < math.inf):
            raise AprlocError(f'field {kind}: {key} is {value!r}; it must be a number above 0')
        if allowed[key].annotation is Exposure and value not in EXPOSURES:
            raise AprlocError(f'field {kind}: {key} is {value!r}; it must be one of {", ".join(EXPOSURES)}')
    try:
        return KINDS[kind](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AprlocError(f'field {kind}: arguments {arguments} do not build: {error}') from None
