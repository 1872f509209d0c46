"""The camera models of COLMAP, which transforms.json shares, as the project's Camera.

COLMAP, instant-ngp and nerfstudio put the top-left pixel's centre at (0.5, 0.5); here it is (0, 0).
"""

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.parsing import checked_camera

# COLMAP's models in the order of their ids (colmap/sensor/models.h) with their parameters; None: not understood.
PARAMETERS = {
    'SIMPLE_PINHOLE': ('f', 'cx', 'cy'),
    'PINHOLE': ('fx', 'fy', 'cx', 'cy'),
    'SIMPLE_RADIAL': ('f', 'cx', 'cy', 'k1'),
    'RADIAL': ('f', 'cx', 'cy', 'k1', 'k2'),
    'OPENCV': ('fx', 'fy', 'cx', 'cy', 'k1', 'k2', 'p1', 'p2'),
    'OPENCV_FISHEYE': ('fx', 'fy', 'cx', 'cy', 'k1', 'k2', 'k3', 'k4'),
    'FULL_OPENCV': ('fx', 'fy', 'cx', 'cy', 'k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6'),
    'FOV': None,
    'SIMPLE_RADIAL_FISHEYE': ('f', 'cx', 'cy', 'k1'),
    'RADIAL_FISHEYE': ('f', 'cx', 'cy', 'k1', 'k2'),
    **dict.fromkeys(('THIN_PRISM_FISHEYE', 'RAD_TAN_THIN_PRISM_FISHEYE', 'SIMPLE_DIVISION', 'DIVISION',
                     'SIMPLE_FISHEYE', 'FISHEYE', 'EUCM', 'EQUIRECTANGULAR')),
}
# OpenCV's order of the coefficients.
OPENCV_ORDER = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')
FISHEYE_ORDER = ('k1', 'k2', 'k3', 'k4')
SUPPORTED = tuple(model for model, names in PARAMETERS.items() if names)


def parameter_names(model: str, where: str) -> tuple[str, ...]:
    if model not in SUPPORTED:
        raise AprlocError(f'{where}: camera model {model} is not one of {", ".join(SUPPORTED)}; '
                          f'undistort the images (colmap image_undistorter) and read the result')
    return PARAMETERS[model]


def make_camera(model: str, width: int, height: int, values: dict[str, float], where: str) -> Camera:
    """values: the model's parameters by COLMAP's names ('f' or 'fx' and 'fy'), missing coefficients are 0."""
    names = parameter_names(model, where)
    focal = values.get('fx', values.get('f')), values.get('fy', values.get('f', values.get('fx')))
    order = FISHEYE_ORDER if model.endswith('FISHEYE') else OPENCV_ORDER
    distortion = tuple(values.get(name, 0.0) if name in names else 0.0 for name in order)
    if model.endswith('FISHEYE'):
        kind = 'fisheye'
    elif any(distortion):
        kind, distortion = 'opencv', distortion if any(distortion[4:]) else distortion[:4]
    else:
        kind, distortion = 'pinhole', ()
    return checked_camera(where, width, height, *focal, values['cx'] - 0.5, values['cy'] - 0.5, kind, distortion)
