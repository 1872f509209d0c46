"""ROS 2 Jazzy, Kilted and Lyrical: every message that the package uses has the same fields in all of them."""

import pytest
from test_architecture import MODULES, ROS, imports

typesys = pytest.importorskip('rosbags.typesys', reason='the definitions come with rosbags')
STORES = {name: typesys.get_typestore(typesys.Stores[f'ROS2_{name}']) for name in ('JAZZY', 'KILTED', 'LYRICAL')}
RELEASED_APART = {'geographic_msgs'}   # of no distribution's core: rosbags does not know it
NAMES = sorted({name.replace('.', '/') for tree in MODULES.values() for name in imports(tree)
                if name.split('.')[0] in ROS - RELEASED_APART and name.split('.')[1:2] == ['msg']})


def test_the_messages_are_found():
    assert {'sensor_msgs/msg/Image', 'geometry_msgs/msg/PoseWithCovarianceStamped', 'tf2_msgs/msg/TFMessage'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_message_has_the_same_fields_in_every_distribution(name):
    (constants, fields), *others = (store.fielddefs[name] for store in STORES.values())
    for other_constants, other_fields in others:
        assert other_fields == fields
        assert [constant for constant in other_constants if constant in constants] == constants   # more may come


def test_every_field_of_a_message_within_is_the_same_too():
    within, seen = list(NAMES), set()
    while within:
        name = within.pop()
        if name in seen:
            continue
        seen.add(name)
        definitions = [store.fielddefs[name][1] for store in STORES.values()]
        assert definitions[0] == definitions[1] == definitions[2], name
        within += [part for part in STORES['JAZZY'].fielddefs if f"'{part}'" in repr(definitions[0])]
    assert {'std_msgs/msg/Header', 'sensor_msgs/msg/PointField', 'geometry_msgs/msg/Quaternion'} <= seen
