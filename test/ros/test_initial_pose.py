"""Poses that somebody states: RViz' and AMCL's covariances, and what is no pose."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import PoseWithCovarianceStamped

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.ros.initial_pose import stated_pose
from aprloc_ros.ros.messages import pose_with_covariance, time_message

T_MAP_BASE = se3_exp(torch.tensor([2.0, -1.0, 0.5, 0.2, -0.3, 1.5], dtype=torch.float64))


def message(covariance=None, T=T_MAP_BASE, frame_id='map'):
    stated = pose_with_covariance(time_message(7), frame_id, T, torch.eye(6, dtype=torch.float64))
    if covariance is not None:
        stated.pose.covariance = np.asarray(covariance, dtype=float).ravel().tolist()
    return stated


def test_what_the_node_publishes_it_reads_again():
    factor = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = factor @ factor.T
    T, read = stated_pose(pose_with_covariance(time_message(7), 'map', T_MAP_BASE, covariance), 'map')
    torch.testing.assert_close(T, T_MAP_BASE)
    torch.testing.assert_close(read, covariance)


def test_rviz_states_x_y_and_yaw_alone_and_the_other_axes_are_as_uncertain():
    T = se3_exp(torch.tensor([2.0, -1.0, 0.0, 0.0, 0.0, 1.5], dtype=torch.float64))
    _, covariance = stated_pose(message(np.diag([0.25, 0.25, 0, 0, 0, 0.0685]), T), 'map')
    torch.testing.assert_close(covariance, torch.diag(torch.tensor([0.25] * 3 + [0.0685] * 3, dtype=torch.float64)))


def test_the_covariance_turns_into_the_axes_of_the_base():
    stated = np.diag([4.0, 1.0, 1.0, 0.1, 0.1, 0.1])
    _, covariance = stated_pose(message(stated), 'map')
    R = Rotation.from_matrix(T_MAP_BASE[:3, :3].numpy())
    np.testing.assert_allclose(covariance[:3, :3], R.inv().as_matrix() @ stated[:3, :3] @ R.as_matrix(), atol=1e-12)


def test_a_covariance_of_zeros_is_a_first_guess():
    _, covariance = stated_pose(message(np.zeros((6, 6)), frame_id='/map'), 'map')   # as old tools have it
    torch.testing.assert_close(torch.diagonal(covariance)[[0, 5]], torch.tensor([0.25, 0.0685], dtype=torch.float64))


@pytest.mark.parametrize('spoilt, words', [
    (message(frame_id='odom'), "in the frame 'odom', not in 'map'"), (message(-np.eye(6)), 'not positive definite'),
    (message(np.full((6, 6), np.nan)), 'not positive definite'), (message(np.diag([np.inf] * 6)), 'not positive definite'),
    (PoseWithCovarianceStamped(), "in the frame ''")])
def test_what_is_no_pose_is_refused_in_one_line(spoilt, words):
    with pytest.raises(AprlocError, match=words) as caught:
        stated_pose(spoilt, 'map')
    assert '\n' not in str(caught.value)


def test_a_quaternion_of_zero_is_refused():
    spoilt = message()
    q = spoilt.pose.pose.orientation
    q.x = q.y = q.z = q.w = 0.0
    with pytest.raises(AprlocError, match='quaternion'):
        stated_pose(spoilt, 'map')
