"""`relocalize`: a lifecycle node around the Localizer. Configuring loads the map, activating opens the stream."""

import dataclasses
import os
import threading
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from aprloc_ros.catalogue import find_map
from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.pace import Effort
from aprloc_ros.placement.map_frame import ARBITRARY
from aprloc_ros.refinement.refined import Budget
from aprloc_ros.ros.clocks import STEADY
from aprloc_ros.ros.display import Display
from aprloc_ros.ros.frames import Setup
from aprloc_ros.ros.geopose import SendGeoPose, check_origin, make_geopose, make_publisher
from aprloc_ros.ros.loaded_map import LoadedMap
from aprloc_ros.ros.messages import diagnostics
from aprloc_ros.ros.odometry import OdometryBuffer, OdometrySource, TfOdometry
from aprloc_ros.ros.parameters import NodeParameters, check_changes, declare_parameters, read_parameters
from aprloc_ros.ros.services import Services
from aprloc_ros.ros.stream import FrameStream
from aprloc_ros.ros.transforms import TfLookup, make_broadcaster, make_extrinsics, make_lookup
from aprloc_ros.ros.transitions import refuse_impossible_transitions

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class RelocalizeNode(LifecycleNode):
    """The lifecycle, the parameters and the diagnostics; frames are the stream's business."""

    def __init__(self, context: Context | None = None):
        """context: of rclpy; None: the default one."""
        super().__init__('relocalize', context=context)
        declare_parameters(self)
        self._pose = self.create_lifecycle_publisher(PoseStamped, 'pose', 10)
        self._pose_with_covariance = self.create_lifecycle_publisher(PoseWithCovarianceStamped, 'pose_with_covariance', 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._status = self.create_publisher(String, '~/status', _LATCHED)
        self._state, self.problem, self._said_status = 'unconfigured', '', ''
        self._reporting = threading.Lock()
        self._setup: Setup | None = None
        self._loaded: LoadedMap | None = None
        self._stream: FrameStream | None = None
        self._display: Display | None = None
        self._timer, self._send_transform, self._geopose, self._said = None, None, None, set()
        self._lookup: TfLookup | None = None
        refuse_impossible_transitions(self)
        Services(self, lambda: self._stream)
        self._report_every(self.get_parameter('diagnostics_period_s').value)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.add_post_set_parameters_callback(self._after_parameters)

    # Transitions. rclpy swallows what they raise, so each failure is said here, in one line.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._succeeds('configure', self._prepare):
            return TransitionCallbackReturn.FAILURE
        self._enter('inactive')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._succeeds('activate', self._prepare_again_if_changed):
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)  # first: publishers are silent until then
        bundle = self._loaded.bundle
        self._display = Display(self, bundle, self._setup.map_frame)
        if bundle.points is not None:
            self._display.publish_map(bundle.points.view_poses)
        setup = dataclasses.replace(self._setup, display=self._display)
        self._stream = FrameStream(self, setup, self._pose, self._pose_with_covariance, self.report)
        self._enter('active')
        self._stream.announce()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        self._enter('inactive')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._let_go('unconfigured')
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._let_go('finalized')
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._let_go('unconfigured')
        return super().on_error(state)

    def _let_go(self, state: str) -> None:
        self.close()
        self._setup = self._loaded = None
        self._enter(state)

    def close(self) -> None:
        """Stop listening and finish the frame in hand."""
        if self._stream is not None:
            self._stream.close()
            self._display.close()
            self._stream = self._display = None

    def _succeeds(self, what: str, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception as error:  # noqa: BLE001  rclpy would hide it
            text = str(error) if isinstance(error, AprlocError) else f'{type(error).__name__}: {error}'
            self.problem = f'cannot {what}: {text}'
            self.get_logger().error(self.problem)
            self.report()
            return False
        self.problem = ''
        return True

    def _enter(self, state: str) -> None:
        self._state = state
        self.get_logger().info(state)
        self.report()

    # Parameters.

    def _prepare(self) -> None:
        parameters = read_parameters(self)
        if not parameters.map:
            raise AprlocError('the parameter map is empty; name a map, as in -p map:=demo')
        loaded = LoadedMap(load_map(find_map(parameters.map, parameters.map_dir or None), parameters.device))
        bundle = loaded.bundle
        budget = Budget(parameters.refine_iterations, parameters.refine_ms)
        localizer = Localizer(bundle, parameters.device, parameters.refiner, budget, parameters.max_wrong_share)
        self._say_pace(localizer.warm_up(), budget)
        if self._lookup is None:
            self._lookup = make_lookup(self)
        extrinsics, missing = make_extrinsics(self._lookup, parameters.extrinsics, parameters.base_frame,
                                              parameters.camera_xyz_m, parameters.camera_rpy_rad)
        self._say_once(missing)
        self._setup = Setup(parameters, localizer, parameters.map_frame or bundle.manifest.frame_id, extrinsics,
                            self._odometry(parameters), self._lookup, self._broadcaster(parameters),
                            self._send_geopose(parameters, bundle))
        self._loaded = loaded
        if bundle.manifest.frame.unit == ARBITRARY:
            name = bundle.manifest.name
            self._say_once(f'the unit of the map {name} is arbitrary: its poses are not in metres; put it into metres with '
                           f'aprloc align {name} --to TRAJECTORY --data DRIVE --with-scale')
        self._report_every(parameters.diagnostics_period_s)
        self.get_logger().info(f'map {bundle.manifest.name} of {bundle.directory} on {localizer.device_name}')
        spec = bundle.manifest.refiners.get(localizer.refiner_name)
        if spec is not None:
            self.get_logger().info(f'max_wrong_share: {spec.gate.promise(parameters.max_wrong_share)}')

    def _say_pace(self, usual_ms: dict[Effort, float], budget: Budget) -> None:
        """How long a refinement takes here; a warning where that is more than it may."""
        if not usual_ms:
            return
        text = ', '.join(f'{ms:.0f} ms by {effort.refiner} on {effort.threads} thread{"s"[:effort.threads > 1]}'
                         for effort, ms in usual_ms.items())
        self.get_logger().info(f'a refinement takes {text}; it may take {budget.milliseconds:g} ms (refine_ms)')
        if min(usual_ms.values()) > budget.milliseconds:
            self.get_logger().warning(f'every frame will be out of time: raise refine_ms above {min(usual_ms.values()):.0f}, or a faster device')

    def _prepare_again_if_changed(self) -> None:
        if read_parameters(self) != self._setup.parameters or self._loaded.change:
            self._prepare()

    def _odometry(self, parameters: NodeParameters) -> OdometrySource | None:
        if parameters.odometry == 'topic':
            return OdometryBuffer(parameters.base_frame)
        if parameters.odometry == 'tf' and self._lookup is None:
            raise AprlocError("the parameter odometry is 'tf' but tf2_ros is not installed; set it to 'topic' or 'none'")
        if parameters.odometry == 'tf':
            return TfOdometry(self._lookup, parameters.odom_frame, parameters.base_frame)
        if parameters.publish_tf == 'map_to_odom':
            self._say_once("the parameter odometry is 'none', so that map_to_odom is unknown: TF is off")
        return None

    def _broadcaster(self, parameters: NodeParameters) -> Callable | None:
        if parameters.publish_tf == 'none':
            return None
        if self._send_transform is None:
            self._send_transform, missing = make_broadcaster(self)
            self._say_once(missing)
        return self._send_transform

    def _send_geopose(self, parameters: NodeParameters, bundle: MapBundle) -> SendGeoPose | None:
        if not parameters.geopose:
            return None
        origin = check_origin(bundle.manifest.frame.geodetic)
        self._geopose = self._geopose or make_publisher(self)
        return make_geopose(self._geopose, origin)

    def _say_once(self, text: str) -> None:
        if text and text not in self._said:
            self.get_logger().warning(text)
            self._said.add(text)

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            check_changes(changes, self.get_name(), self._state == 'active')
        except AprlocError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _after_parameters(self, changes: list[Parameter]) -> None:
        if self._stream is not None:
            parameters = read_parameters(self)
            self._setup = dataclasses.replace(self._setup, parameters=parameters)
            self._stream.retune(parameters)

    # Diagnostics and status.

    def _report_every(self, period_s: float) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        # Diagnostics also come while a simulation's clock stands still.
        self._timer = self.create_timer(period_s, self.report, clock=STEADY)

    def report(self) -> None:
        """Publish what the node is doing and what it did with its frames. From any thread."""
        with self._reporting:
            stream = self._stream
            if self.problem:
                level, text, values = DiagnosticStatus.ERROR, self.problem, {}
            elif stream is not None:
                level, text, values = stream.status()
                change = self._loaded.change if self._loaded else ''
                self._say_once(change)
                if change:
                    level, text = max(level, DiagnosticStatus.WARN), change if level == DiagnosticStatus.OK else f'{text}; {change}'
            else:
                level, text, values = DiagnosticStatus.OK, self._state, {}
            values = {'state': self._state, 'status': 'unconfigured', 'pid': str(os.getpid()), **values}
            name = self.get_fully_qualified_name().lstrip('/')
            self._diagnostics.publish(diagnostics(self.get_clock().now().to_msg(), name, level, text, values))
            if values['status'] != self._said_status:
                self._said_status = values['status']
                self._status.publish(String(data=self._said_status))
