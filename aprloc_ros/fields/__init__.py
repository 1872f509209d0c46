"""Radiance fields: three kinds of one interface, named in a map's manifest."""

import inspect
import math

from torch import nn

from aprloc_ros.errors import AprlocError
from aprloc_ros.fields.nerf import Nerf, NerfHist
from aprloc_ros.fields.planes import PlaneField

KINDS = {'nerf': Nerf, 'nerf_hist': NerfHist, 'planes': PlaneField}


def build_field(kind: str, arguments: dict) -> nn.Module:
    """A field of random weights. kind: 'nerf', 'nerf_hist' or 'planes'; arguments: those of its class.

    Raises AprlocError for an unknown kind or argument, or a value the class cannot take.
    """
    if kind not in KINDS:
        raise AprlocError(f'field kind {kind!r} is not one of {", ".join(KINDS)}')
    allowed = inspect.signature(KINDS[kind]).parameters
    for key, value in arguments.items():
        if key not in allowed:
            raise AprlocError(f'field {kind}: unknown argument {key!r}; allowed: {", ".join(allowed)}')
        if allowed[key].annotation is int and (type(value) is not int or value < 1):
            raise AprlocError(f'field {kind}: {key} is {value!r}; it must be a whole number from 1')
        if allowed[key].annotation is float and not (type(value) in (int, float) and 0 < value < math.inf):
            raise AprlocError(f'field {kind}: {key} is {value!r}; it must be a number above 0')
    try:
        return KINDS[kind](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AprlocError(f'field {kind}: arguments {arguments} do not build: {error}') from None
