"""What a node says when it has become active: what it waits for, with resolved names and QoS, and what it will publish."""

import re
import types

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed')
from ros_peer import interrupt, running_nodes, start_node

from aprloc_ros.ros.announcement import announcement
from aprloc_ros.ros.parameters import NodeParameters

INPUTS = {'image': '/image (sensor_msgs/msg/Image, best_effort)', 'camera_info': '/info (sensor_msgs/msg/CameraInfo, reliable)',
          'odometry': '/odom (nav_msgs/msg/Odometry, best_effort)'}


class Resolving:
    """A node in the namespace robot."""

    def resolve_topic_name(self, topic):
        return topic if topic.startswith('/') else f'/robot/{topic.replace("~", "relocalize")}'


def said(tf_is_there=True, odometry='any', **parameters):
    setup = types.SimpleNamespace(parameters=NodeParameters(map='demo', **parameters), map_frame='map', odometry=odometry,
                                  send_transform=print if tf_is_there else None)
    return list(announcement(Resolving(), setup, INPUTS))


def test_inputs_with_what_hangs_on_them_then_outputs():
    image, camera_info, odometry, pose, transform = said()
    assert image == f'waits for image on {INPUTS["image"]}'
    assert camera_info == f'waits for camera_info on {INPUTS["camera_info"]}: no image is answered without'
    assert odometry == f'waits for odometry on {INPUTS["odometry"]}: no transform is published without'
    assert 'base_link in map on /robot/pose and /robot/pose_with_covariance (reliable)' in pose
    assert '/robot/relocalize/status and /diagnostics' in pose
    assert transform == 'will publish the transform map -> odom on /tf'


@pytest.mark.parametrize('parameters, words', [
    ({'publish_tf': 'map_to_base'}, 'the transform map -> base_link on /tf'), ({'publish_tf': 'none'}, 'no transform'),
    ({'tf_is_there': False}, 'no transform'), ({'odometry': None}, 'no transform')])
def test_the_transform_is_the_one_that_there_will_be(parameters, words):
    assert said(**parameters)[-1] == f'will publish {words}'


def test_what_is_not_needed_is_not_asked_for():
    image, camera_info, odometry, *_ = said(require_camera_info=False, mode='one_shot', publish_tf='none')
    assert image.endswith('whenever ~/relocalize is called') and camera_info.endswith("else takes the map's camera")
    assert odometry == f'waits for odometry on {INPUTS["odometry"]}'


def test_the_log_of_a_real_node_goes_on_after_active_with_its_own_topics(tmp_path, peer, tiny_map):
    with running_nodes(tmp_path, peer, tiny_map) as run:
        log = run(remappings=['image:=/camera/image_raw', 'odom:=/wheels'], reliability='best_effort')
        peer.wait_for(lambda: 'will publish' in log.read_text(), 'its announcement')
        text = log.read_text()
        after = text[text.index(': active'):]
        assert 'waits for image on /camera/image_raw (sensor_msgs/msg/Image, best_effort)' in after
        assert 'waits for camera_info on /camera_info (sensor_msgs/msg/CameraInfo, best_effort)' in after
        assert 'waits for odometry on /wheels (nav_msgs/msg/Odometry, best_effort)' in after
        assert re.search(r'will publish the pose of base_link in map on /pose and /pose_with_covariance', after)


def test_a_node_that_could_not_work_says_so_to_what_started_it(tmp_path, peer, tiny_map):
    """One that waits for its map all the same: an exit code for a launch file, a state and a diagnostic for all others."""
    peer.wait_for(lambda: not peer.hears_a_node(), 'the end of the node before')
    process = start_node(tmp_path / 'log', {'map': 'tinny', 'map_dir': tiny_map.parent})
    try:
        status = peer.wait_for_diagnostic(lambda s: s.level == s.ERROR, 'an error')
        assert 'no map tinny' in status.message and 'did you mean tiny?' in status.message
        assert peer.state() == 'unconfigured'
    finally:
        code = interrupt(process)
    assert code == 1
