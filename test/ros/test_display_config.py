"""The files for RViz and Foxglove show the topics that the node has, with the types and the QoS it has them with."""

import json

import yaml
from repository import ROOT

CONFIG = ROOT / 'config'
DISPLAYS = {'/pose_with_covariance': 'PoseWithCovariance', '/relocalize/path': 'Path', '/relocalize/overlay': 'Image',
            '/relocalize/map_cloud': 'PointCloud2', '/relocalize/map_cameras': 'MarkerArray'}
LATCHED = {'/relocalize/map_cloud', '/relocalize/map_cameras'}


def manager():
    return yaml.safe_load((CONFIG / 'relocalize.rviz').read_text())['Visualization Manager']


def test_rviz_shows_each_topic_with_the_display_of_its_type():
    displays = manager()['Displays']
    assert all(display['Enabled'] and display['Value'] for display in displays)
    shown = {display['Topic']['Value']: display['Class'] for display in displays if 'Topic' in display}
    assert shown == {topic: f'rviz_default_plugins/{name}' for topic, name in DISPLAYS.items()}
    assert {'rviz_default_plugins/TF', 'rviz_default_plugins/Grid'} <= {display['Class'] for display in displays}
    assert len({display['Name'] for display in displays}) == len(displays)


def test_rviz_hears_what_is_latched_and_does_not_ask_others_for_it():
    for display in manager()['Displays']:
        if 'Topic' in display:
            latched = display['Topic']['Value'] in LATCHED
            assert display['Topic']['Durability Policy'] == ('Transient Local' if latched else 'Volatile')


def test_rviz_draws_the_covariance_in_the_frame_of_the_map():
    assert manager()['Global Options']['Fixed Frame'] == 'map'
    pose, = (display for display in manager()['Displays'] if display['Class'].endswith('PoseWithCovariance'))
    covariance = pose['Covariance']
    assert covariance['Value'] and covariance['Position']['Value'] and covariance['Orientation']['Value']


def test_rviz_can_say_where_the_robot_is():
    tool, = (tool for tool in manager()['Tools'] if tool['Class'].endswith('SetInitialPose'))
    assert tool['Topic']['Value'] == '/initialpose'


def panels(layout):
    """Names of the panels in a Foxglove layout."""
    return [layout] if isinstance(layout, str) else panels(layout['first']) + panels(layout['second'])


def test_foxglove_shows_the_same_topics():
    layout = json.loads((CONFIG / 'foxglove.json').read_text())
    assert sorted(panels(layout['layout'])) == sorted(layout['configById'])
    topics = set(layout['configById']['3D!map']['topics'])
    topics.add(layout['configById']['Image!overlay']['imageMode']['imageTopic'])
    assert topics == set(DISPLAYS) | {'/truth'}   # truth: of the bags of `aprloc bag`
    assert layout['configById']['3D!map']['followTf'] == 'map'
    assert layout['configById']['DiagnosticStatusPanel!node']['topicToRender'] == '/diagnostics'
