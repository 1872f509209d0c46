"""The node's parameters: the file repeats the defaults, descriptions and ranges reach ROS, bad values are refused."""

import dataclasses

import pytest
import yaml

rclpy = pytest.importorskip('rclpy', reason='ROS is not installed')
from rclpy.parameter import Parameter
from repository import ROOT

from aprloc_ros.config import to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.bag_images import ImageTopics
from aprloc_ros.ros.parameters import NodeParameters, check_changes, declare_parameters, read_parameters

FILE = ROOT / 'config/relocalize.yaml'


@pytest.fixture
def make_node():
    context = rclpy.Context()
    nodes = []

    def make(*arguments):
        rclpy.init(context=context, args=['--ros-args', *arguments])
        nodes.append(rclpy.create_node('relocalize', context=context))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def test_the_file_repeats_every_default():
    assert yaml.safe_load(FILE.read_text())['/**']['ros__parameters'] == to_mapping(NodeParameters())


def test_the_node_reads_the_file_and_gets_the_defaults(make_node):
    node = make_node('--params-file', str(FILE))
    declare_parameters(node)
    assert read_parameters(node) == NodeParameters()


def test_every_parameter_is_described_and_ranged(make_node):
    node = make_node()
    declare_parameters(node)
    for parameter in dataclasses.fields(NodeParameters):
        descriptor = node.describe_parameter(parameter.name)
        assert descriptor.description == parameter.metadata['description']
        if type(parameter.default) in (int, float):
            limits = (descriptor.integer_range or descriptor.floating_point_range)[0]
            assert (limits.from_value, limits.to_value) == parameter.metadata['range']
        if 'choices' in parameter.metadata:
            assert all(choice in descriptor.additional_constraints for choice in parameter.metadata['choices'])


def test_the_prefix_goes_before_the_frames_of_the_robot_and_not_of_the_map(make_node):
    node = make_node('-p', 'frame_prefix:=robot1/', '-p', 'base_frame:=base', '-p', 'map_frame:=hall')
    declare_parameters(node)
    parameters = read_parameters(node)
    assert (parameters.base_frame, parameters.odom_frame, parameters.map_frame) == ('robot1/base', 'robot1/odom', 'hall')


@pytest.mark.parametrize('topic, rectified', [
    ('/cam/image_rect', True), ('/cam/image_rect_color', True), ('/cam/image_raw', False), ('/image_rect/image', False)])
def test_the_name_of_the_topic_says_that_images_are_rectified_as_it_does_in_a_bag(make_node, topic, rectified):
    node = make_node('-r', f'image:={topic}')
    declare_parameters(node)
    assert read_parameters(node).rectified == ImageTopics(topic, None).rectified == rectified


@pytest.mark.parametrize('override', ['frame_prefix:=/robot1/', 'base_frame:=/base', 'map_frame:=/map', "base_frame:=''"])
def test_a_frame_that_tf_does_not_take_is_refused(make_node, override):
    node = make_node('-p', override)
    declare_parameters(node)
    with pytest.raises(AprlocError, match='leading slash'):
        read_parameters(node)


@pytest.mark.parametrize('override', ['diagnostics_period_s:=0.0', 'max_image_bytes:=10', 'map:=3', 'rectified:=1'])
def test_an_override_that_is_not_allowed_is_one_line(make_node, override):
    with pytest.raises(AprlocError, match=override.split(':')[0]) as caught:
        declare_parameters(make_node('-p', override))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('override', ['image_transport:=theora', 'camera_xyz_m:=[1.0]', 'camera_rpy_rad:=[9.0,0.0,0.0]'])
def test_a_value_that_ros_cannot_refuse_is_refused_when_read(make_node, override):
    node = make_node('-p', override)
    declare_parameters(node)
    with pytest.raises(AprlocError, match=f'relocalize: {override.split(":")[0]}'):
        read_parameters(node)


def test_changes_are_checked():
    check_changes([Parameter('map', value='a'), Parameter('use_sim_time', value=True)], 'relocalize', active=False)
    check_changes([Parameter('use_sim_time', value=True)], 'relocalize', active=True)
    with pytest.raises(AprlocError, match='map can only change while the node is not active'):
        check_changes([Parameter('map', value='a')], 'relocalize', active=True)
    with pytest.raises(AprlocError, match='publish_tf is .* it must be one of'):
        check_changes([Parameter('publish_tf', value='yes')], 'relocalize', active=False)
    with pytest.raises(AprlocError, match='camera_xyz_m'):
        check_changes([Parameter('camera_xyz_m', value=[1.0, 2.0])], 'relocalize', active=False)
