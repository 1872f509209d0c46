"""Ten thousand frames through the real node, over DDS, in this process: memory stays, no answer is lost.

make test-slow, or pytest -m slow -s test/test_soak.py
"""

import os
import resource
import threading
from pathlib import Path

import pytest
from tiny_map import CAMERA

rclpy = pytest.importorskip('rclpy', reason='ROS is not installed')
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from ros_peer import PIXELS, camera_info_message, image_message, next_stamp

FRAMES, WARM_UP = 10_000, 1_000
GROWTH_BYTES_PER_FRAME = 500   # less than the least message


def resident_bytes():
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def node(tiny_map):
    """The real node, active, spinning on a thread."""
    from aprloc_ros.ros.node import RelocalizeNode
    parameters = {'map': 'tiny', 'map_dir': tiny_map.parent, 'device': 'cpu', 'reliability': 'reliable',
                  'extrinsics': 'parameters', 'confirmations': 1}
    arguments = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', *arguments], signal_handler_options=SignalHandlerOptions.NO)
    node = RelocalizeNode(context=context)
    executor, done = SingleThreadedExecutor(context=context), threading.Event()
    executor.add_node(node)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def spin():
        while not done.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    done.set()
    thread.join()
    node.close()
    node.destroy_node()
    context.try_shutdown()


def is_answered(peer):
    """Sends an image and waits for its pose, which is then forgotten: the test's own memory must not grow."""
    stamp = next_stamp()
    peer.publish('image', image_message(PIXELS, stamp))
    peer.wait_for(lambda: stamp in peer.poses and stamp in peer.full_poses, 'an answer')
    for memory in (peer.poses, peer.full_poses, peer.heard):
        memory.clear()
    return True


@pytest.mark.slow
def test_ten_thousand_frames(peer, node):
    peer.wait_until_active()
    peer.publish('camera_info', camera_info_message(CAMERA))
    answered = sum(is_answered(peer) for _ in range(WARM_UP))
    before = resident_bytes()
    answered += sum(is_answered(peer) for _ in range(FRAMES - WARM_UP))
    grown = resident_bytes() - before
    print(f'\n{answered} of {FRAMES} frames answered; memory {before / 1e6:.1f} MB after {WARM_UP} frames, '
          f'{grown / 1e6:+.2f} MB after {FRAMES}, process {os.getpid()}')
    peer.wait_for(lambda: int(peer.values()['frames received']) == FRAMES, 'the last diagnostic')
    assert answered == FRAMES == int(peer.values()['frames answered'])
    assert grown < GROWTH_BYTES_PER_FRAME * (FRAMES - WARM_UP)
