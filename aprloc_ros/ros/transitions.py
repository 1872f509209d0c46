"""A transition that does not begin where the node is: Jazzy's rclpy ends of it, as later ones do not."""

from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Have the node's change_state answer such a request with a failure."""
    service = node._service_change_state   # rclpy has no other name for it, from Jazzy (7.1) to Lyrical (9.1)
    change = service.callback

    def change_if_possible(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change(request, response)
        except RCLError as error:
            node.get_logger().error(f'no transition {request.transition.label or request.transition.id} from here: {error}')
            response.success = False
            return response
    service.callback = change_if_possible
