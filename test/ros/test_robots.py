"""Two robots, each in its namespace: neither hears the other, and their frames and transforms stay apart."""

import pytest
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from geometry_msgs.msg import PoseStamped
from ros_peer import PIXELS, Peer, assert_answers, camera_info_message, image_message, next_stamp, running_nodes
from test_node_tf import RECORD_TF

ROBOTS = ('robot1', 'robot2')
SHARED = {'/diagnostics', '/rosout', '/parameter_events', '/clock'}
# Transforms leave on the topic of transforms itself, as poses whose frame names both frames.
RECORD_ON_TF = RECORD_TF.replace("'recorded' + topic", 'topic')


@pytest.fixture(scope='module')
def robots(tmp_path_factory, tiny_map):
    """A peer in each namespace, with a node that is active."""
    peers = [Peer(namespace) for namespace in ROBOTS]
    with running_nodes(tmp_path_factory.mktemp('one'), peers[0], tiny_map) as start_one, \
            running_nodes(tmp_path_factory.mktemp('two'), peers[1], tiny_map) as start_two:
        for start, namespace in zip((start_one, start_two), ROBOTS, strict=True):
            start(RECORD_ON_TF, [f'__ns:=/{namespace}', '/tf:=tf', '/tf_static:=tf_static'], publish_tf='map_to_base',
                  frame_prefix=f'{namespace}/', gate_probability=1.0)
        for peer in peers:
            peer.wait_until_active()
        yield peers
    for peer in peers:
        peer.close()


@pytest.mark.parametrize('index', [0, 1])
def test_one_answers_and_the_other_hears_nothing_of_it(robots, index):
    robot, other = robots[index], robots[1 - index]
    transforms, elsewhere = [], []
    own = robot._node.create_subscription(PoseStamped, 'tf', transforms.append, 100)
    root = robot._node.create_subscription(PoseStamped, '/tf', elsewhere.append, 100)
    robot.spin_for(0.5)
    heard, stamps = len(other.heard), []
    while not transforms:   # nobody is told when the node has found the new listeners
        stamps.append(assert_answers(robot))
        robot.spin_for(0.1)
    other.spin_for(0.5)
    assert len(other.heard) == heard and other.poses.keys().isdisjoint(stamps) and not elsewhere
    assert {message.header.frame_id for message in transforms} == {f'map {ROBOTS[index]}/base_link'}
    for subscription in (own, root):
        robot._node.destroy_subscription(subscription)


def test_an_image_in_its_own_prefixed_frame_needs_no_extrinsics(robots):
    robot, stamp = robots[0], next_stamp()
    robot.publish('camera_info', camera_info_message(CAMERA))
    robot.publish('image', image_message(PIXELS, stamp, frame_id='robot1/base_link'))
    robot.wait_for(lambda: stamp in robot.poses, 'the pose')
    other = assert_answers(robot)
    assert robot.poses[stamp].pose.orientation != robot.poses[other].pose.orientation   # the camera's, not the body's


def test_all_that_a_node_has_is_in_its_namespace(robots):
    for robot, namespace in zip(robots, ROBOTS, strict=True):
        node = robot._node
        for names in (node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node,
                      node.get_service_names_and_types_by_node):
            topics = {name for name, _ in names('relocalize', f'/{namespace}')} - SHARED
            assert topics and all(name.startswith(f'/{namespace}/') for name in topics), topics


def test_a_service_says_where_it_published(robots):
    for robot, namespace in zip(robots, ROBOTS, strict=True):
        assert_answers(robot)
        response = robot.trigger('publish_initialpose')
        assert response.success and response.message.startswith(f'published on /{namespace}/initialpose: ')
