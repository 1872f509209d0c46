"""The SROS2 policy names what the running node really has: no more, so that it is minimal; no less, so that it works."""

import time
from xml.etree import ElementTree

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed')
import rclpy
from rclpy.signals import SignalHandlerOptions
from repository import ROOT
from ros_peer import PATIENCE_S, interrupt, start_node

from aprloc_ros.map_bundle import load_map
from aprloc_ros.ros.display import Display

POLICY = ROOT / 'config/sros2/policy.xml'
NODE = '/relocalize'
RAW, COMPRESSED = {('subscribe', '/image')}, {('subscribe', '/image/compressed')}
SHOWN = {('publish', f'/relocalize/{topic}') for topic in ('overlay', 'path', 'map_cloud', 'map_cameras')}
# Only where tf2_ros is installed, which PyPI's wheels lack.
WITH_TF2 = {('subscribe', '/tf'), ('subscribe', '/tf_static'), ('publish', '/tf'), ('reply', '/tf2_frames')}


def policy():
    """What the policy allows: {(publish, subscribe or reply, full name)}."""
    profile, = ElementTree.parse(POLICY).getroot().iter('profile')
    assert (profile.get('ns'), profile.get('node')) == ('/', NODE[1:])
    allowed = []
    for group in profile:
        for verb in ('publish', 'subscribe', 'reply'):
            assert group.get(verb) in (None, 'ALLOW')
            allowed += [(verb, full_name(item.text)) for item in group if group.get(verb)]
    assert len(allowed) == len(set(allowed))
    return set(allowed)


def full_name(name):
    return name.replace('~', NODE, 1) if name[0] == '~' else name if name[0] == '/' else f'/{name}'


@pytest.fixture(scope='module')
def observer():
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('observer', context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def interfaces(observer):
    """What the node called relocalize has, in the form of policy()."""
    kinds = {'publish': observer.get_publisher_names_and_types_by_node,
             'subscribe': observer.get_subscriber_names_and_types_by_node,
             'reply': observer.get_service_names_and_types_by_node}
    try:
        return {(verb, name) for verb, names in kinds.items() for name, _ in names(NODE[1:], '/')}
    except rclpy.node.NodeNameNonExistentError:
        return set()


def settled(observer, expected):
    """The interfaces when they hold all that is expected, or none if nothing is, and have not changed for a second."""
    end_s, last, since_s = time.monotonic() + PATIENCE_S, set(), time.monotonic()
    while time.monotonic() < end_s:
        found = interfaces(observer)
        if found != last:
            last, since_s = found, time.monotonic()
        if expected <= last and bool(expected) == bool(last) and time.monotonic() - since_s > 1.0:
            return last
        time.sleep(0.1)
    return last


@pytest.fixture(scope='module')
def observed(observer, peer, tiny_map, tmp_path_factory):
    """Interfaces of the active node with raw and with compressed images, and of its display."""
    parameters = {'map': 'tiny', 'map_dir': tiny_map.parent, 'device': 'cpu', 'extrinsics': 'parameters',
                  'use_sim_time': 'true'}
    allowed = policy() - WITH_TF2
    process = start_node(tmp_path_factory.mktemp('log') / 'node.log', parameters)
    try:
        found = settled(observer, allowed - COMPRESSED - SHOWN)
        assert peer.transition('deactivate') and peer.set_parameter('image_transport', 'compressed').successful
        assert peer.transition('activate')
        found |= settled(observer, allowed - RAW - SHOWN)
    finally:
        interrupt(process)
    settled(observer, set())
    node = rclpy.create_node(NODE[1:], context=observer.context)
    display = Display(node, load_map(tiny_map, 'cpu'), 'map')
    found |= settled(observer, SHOWN)
    display.close()
    node.destroy_node()
    return found


def test_nothing_that_the_node_does_is_denied(observed):
    assert observed <= policy(), sorted(observed - policy())


def test_nothing_is_allowed_that_the_node_does_not_do(observed):
    assert policy() - observed <= WITH_TF2, sorted(policy() - observed - WITH_TF2)


def test_the_policy_has_the_form_of_sros2():
    root = ElementTree.parse(POLICY).getroot()
    assert root.tag == 'policy' and root.get('version') == '0.2.0'
    assert [element.tag for element in root.iter()][:5] == ['policy', 'enclaves', 'enclave', 'profiles', 'profile']
    assert root.find('enclaves/enclave').get('path') == '/relocalize'
    for group in root.iter('profile').__next__():
        assert group.tag in ('topics', 'services') and {item.tag for item in group} == {group.tag.rstrip('s')}
