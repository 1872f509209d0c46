"""Messages against SciPy's reading of the same numbers, and the covariance against sampling."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='ROS is not installed')
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion

from aprloc_ros.covariance import to_base
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.recordings import message_fields
from aprloc_ros.ros import messages as ros_messages

STAMP = Time(sec=7, nanosec=8)


def transform(*tangent):
    return se3_exp(torch.tensor(tangent, dtype=torch.float64))


def test_poses_and_transforms():
    T = transform(1, -2, 3, 0.3, -2.0, 0.7)
    expected = Rotation.from_matrix(T[:3, :3].numpy()).as_quat(canonical=True)
    stamped = ros_messages.pose_stamped(STAMP, 'map', T)
    assert (stamped.header.stamp, stamped.header.frame_id) == (STAMP, 'map')
    tf = ros_messages.transform_stamped(STAMP, 'map', 'odom', T)
    assert (tf.header.frame_id, tf.child_frame_id) == ('map', 'odom')
    for xyz, q in ((stamped.pose.position, stamped.pose.orientation), (tf.transform.translation, tf.transform.rotation)):
        np.testing.assert_allclose([xyz.x, xyz.y, xyz.z], T[:3, 3])
        np.testing.assert_allclose([q.x, q.y, q.z, q.w], expected, atol=1e-12)
        torch.testing.assert_close(message_fields.rigid_transform(xyz, q, 'here'), T)


@pytest.mark.parametrize('q', [Quaternion(w=0.0), Quaternion(w=float('nan')), Quaternion(w=2.0)])
def test_a_quaternion_that_is_none_is_refused(q):
    with pytest.raises(AprlocError, match='odom: the quaternion'):
        message_fields.rigid_transform(Point(), q, 'odom')


def test_the_published_covariance_is_that_of_sampled_poses_of_the_base():
    """Camera poses drawn from the estimate's covariance, moved to the base, measured as ROS defines its numbers."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6)) * 1e-3
    covariance_cam = torch.from_numpy(factor @ factor.T)
    T_map_cam, T_base_cam = transform(50, -20, 3, 1.0, 2.0, -0.5), transform(0.5, 0.2, 1.5, -1.2, 0.3, 0.8)
    T_cam_base = invert(T_base_cam)
    T_map_base = T_map_cam @ T_cam_base
    xi = torch.from_numpy(rng.normal(size=(40_000, 6)) @ factor.T)
    sampled = T_map_cam @ se3_exp(xi) @ T_cam_base
    position = (sampled[:, :3, 3] - T_map_base[:3, 3]).numpy()
    about_map_axes = Rotation.from_matrix((sampled[:, :3, :3] @ T_map_base[:3, :3].T).numpy()).as_rotvec()
    measured = np.cov(np.hstack([position, about_map_axes]).T)
    message = ros_messages.pose_with_covariance(STAMP, 'map', T_map_base, to_base(covariance_cam, T_cam_base))
    published = np.reshape(message.pose.covariance, (6, 6))
    scale = np.sqrt(np.outer(measured.diagonal(), measured.diagonal()))
    assert np.abs(published - measured).max() / scale.max() < 0.03
    assert (np.abs(published - measured) / scale).max() < 0.05
    np.testing.assert_array_equal(published, published.T)


def test_diagnostics():
    message = ros_messages.diagnostics(STAMP, 'relocalize', b'\x01', 'late', {'frames': '3'})
    status = message.status[0]
    assert (message.header.stamp, status.name, status.level, status.message) == (STAMP, 'relocalize', b'\x01', 'late')
    assert [(v.key, v.value) for v in status.values] == [('frames', '3')]
