"""The regressors by kind."""

import inspect
from collections.abc import Mapping

from torch import nn

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.coordinates import CoordinateRegressor
from aprloc_ros.networks.dfnet import DFNet
from aprloc_ros.networks.layers import freeze_batch_norm
from aprloc_ros.networks.pose_head import to_T
from aprloc_ros.networks.posenet import PoseNet
from aprloc_ros.networks.pretrained import load_pretrained

__all__ = ['REGRESSORS', 'CoordinateRegressor', 'DFNet', 'PoseNet', 'build_regressor', 'freeze_batch_norm', 'load_pretrained', 'to_T']

REGRESSORS: dict[str, type[nn.Module]] = {'posenet': PoseNet, 'dfnet': DFNet, 'coordinates': CoordinateRegressor}


def build_regressor(kind: str, arguments: Mapping[str, object]) -> nn.Module:
    """A regressor with random weights, from what a manifest says of it.

    arguments: the constructor's, plain values. One of kind `coordinates` has yet to be given its extractor: `see_through`.
    Raises AprlocError for an unknown kind or argument, and for a value out of range.
    """
    if kind not in list(REGRESSORS):
        raise AprlocError(f'regressor kind {kind!r} is not one of {", ".join(REGRESSORS)}')
    allowed = inspect.signature(REGRESSORS[kind]).parameters
    for key in arguments:
        if key not in allowed:
            raise AprlocError(f'regressor {kind} has no argument {key!r}; it takes {", ".join(allowed)}')
    return REGRESSORS[kind](**arguments)
