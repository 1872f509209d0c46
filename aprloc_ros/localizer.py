"""One image in, one pose with its covariance out: the composition that the node, the CLI and the tests share."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera, is_same_view, may_have_taken
from aprloc_ros.device import is_out_of_memory, place, resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.estimate import OTHER_CAMERA, UNSURE, Estimate, contradiction, minding_the_image, why_rejected
from aprloc_ros.fields.views import render_view
from aprloc_ros.gate import MAX_WRONG_SHARE
from aprloc_ros.geometry import nearest_rotation
from aprloc_ros.histogram import BINS
from aprloc_ros.lens_watch import LensWatch
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.networks import CoordinateRegressor, to_T
from aprloc_ros.networks.fusion import fused
from aprloc_ros.pace import Effort, Pace, threads
from aprloc_ros.refinement.refined import OUT_OF_TIME, UNHURRIED, Budget, Query, Refined, make_query
from aprloc_ros.refiners import QUICK_REFINER, look_through, make_refiner, query_camera

logger = logging.getLogger(__name__)
Answer = TypeVar('Answer')

_MOST_CAMERAS = 64  # whose images are remembered
_WARM_UP_RUNS = 3   # of each effort: the first loads and allocates


class Localizer:
    """Answers one query at a time, in evaluation mode. Without a deadline: equal images and starts, equal poses.

    With one, and warmed up, it does what can be done in time: where the map's refiner would be too slow, the quick one is
    asked, which the build calibrated too. What is cut short all the same is rejected. And what the images of a run say of
    the camera that is declared to have taken them is kept, for covariances and for a refusal.
    """

    def __init__(self, bundle: MapBundle, device: str = 'auto', refiner: str = 'default', budget: Budget = UNHURRIED,
                 max_wrong_share: float = MAX_WRONG_SHARE):
        """refiner: a name, 'none', or 'default': the one that the map was built for.
        max_wrong_share: of the poses that are not rejected, as far as the map's calibration can tell.

        Raises AprlocError for a refiner that the map does not have.
        """
        self.manifest = bundle.manifest.promising(max_wrong_share)
        self.refiner_name = bundle.manifest.refiner if refiner == 'default' else refiner
        self._bundle = bundle if bundle.extractor is None else replace(bundle, extractor=fused(bundle.extractor))
        self._budget, self._regressor = budget, fused(bundle.regressor)
        self._place(resolve_device(device))
        self._make_refiners()
        self._efforts = tuple(dict.fromkeys(
            Effort(name, count) for name in self._refiners for count in (torch.get_num_threads(), 1)))
        self._pace = Pace(self._efforts, budget.milliseconds)
        self._watches: dict[Camera, LensWatch] = {}

    def warm_up(self) -> dict[Effort, float]:
        """Learn how long every effort takes here, on a view of the place -> milliseconds of the refiner by effort.

        Nothing of refiners that no build calibrated: some of these take minutes.
        """
        m = self.manifest
        if self.refiner_name not in m.refiners:
            return {}
        T_map_cam = m.scene.T_map_scene if self._bundle.points is None else self._bundle.points.view_poses[0]
        image, _ = render_view(self._bundle.field, m.scene, m.camera, T_map_cam, torch.full((BINS,), 1 / BINS))
        pixels = (255 * image).byte().permute(1, 2, 0).contiguous().cpu().numpy()
        for effort in self._efforts:
            runs = [self._answer(pixels, None, None, effort, UNHURRIED) for _ in range(_WARM_UP_RUNS)]
            for run in runs[1:]:
                self._pace.learn(effort, run.timings_ms['refine'])
        return self._pace.usual_ms

    @property
    def device_name(self) -> str:
        """'cpu' or 'cuda:N'; becomes 'cpu' when CUDA's memory ran out."""
        return str(self._device)

    def localize(self, image: np.ndarray, camera: Camera | None = None, starts: Tensor | None = None) -> Estimate:
        """image: [H, W, 3] uint8 RGB; camera: what took it (None: the map's own, scaled to the image). One that the build
        found to be not as declared is taken as it was found.

        starts: poses [S, 4, 4] T_map_cam to refine from besides the regressor's, the likeliest first (a tracked one).
        Raises AprlocError for an image that is none, a camera that contradicts it, and an answer that is not finite.
        """
        effort = self._pace.choose()
        estimate = self._answer(image, camera, starts, effort, self._budget)
        self._pace.note(effort, estimate.timings_ms.get('refine', 0.0), estimate.reason == OUT_OF_TIME)
        return self._minding(estimate, self._source(image, camera), starts is not None)

    def _answer(self, image: np.ndarray, camera: Camera | None, starts: Tensor | None, effort: Effort,
                budget: Budget) -> Estimate:
        with threads(effort.threads):
            return self._estimate(image, camera, starts, effort.refiner, budget)

    def _estimate(self, image: np.ndarray, camera: Camera | None, starts: Tensor | None, refiner: str,
                  budget: Budget) -> Estimate:
        clock = _Clock()
        image = check_image(image)
        source = self._source(image, camera)
        query = self._query(image, source, self.manifest.camera)
        clock.lap('prepare')
        query = self._looked_through(query, refiner)
        raw = self._regress(query)
        T_prior = self.manifest.scene.pose_to_map(to_T(raw[None])[0])
        clock.lap('regress')
        score = rotation_score(raw[:, :3])
        if refiner == 'none':
            return Estimate(T_prior, self.manifest.covariance, 'prior', score, query.histogram, clock.total(), T_prior)
        poses = T_prior[None] if starts is None else torch.cat([starts.double().cpu(), T_prior[None]])
        if query.features is None:
            query = self._query(image, source, query_camera(self.manifest))
        refined = self._refine(query, poses, refiner, budget)
        points = self._bundle.points
        remoteness = 0.0 if points is None or refined.failed else points.remoteness(refined.T_map_cam.double().cpu())
        judgement = self._judge(refined, T_prior, score, refiner, remoteness)
        clock.lap('refine')
        reason, text = why_rejected(refined, *judgement[2:], clock.total()['refine'])
        return Estimate(*judgement, query.histogram, clock.total(), T_prior, refined, refiner, remoteness, reason, text)

    def _minding(self, estimate: Estimate, source: Camera, is_expected: bool) -> Estimate:
        """A refined estimate with what its and the run's images say of the camera: rejected, or as uncertain as that makes it."""
        spec, refined = self.manifest.refiners.get(estimate.refiner), estimate.refined
        if spec is None or estimate.status != 'refined':
            return estimate
        scale = spec.covariance.largest_scale(estimate.score, estimate.remoteness)
        estimate = minding_the_image(estimate, scale, is_expected)
        if estimate.status == 'rejected' or refined.lens is None or not refined.lens.has_shift:
            return estimate
        verdict = self._watch(source).note(refined.lens, scale)
        if verdict.wrong:
            return replace(estimate, status='rejected', reason=OTHER_CAMERA, text=contradiction(source, verdict.offsets))
        if verdict.alone:
            return replace(estimate, status='rejected', reason=UNSURE, text='it asks for another camera than the images before it')
        return replace(estimate, covariance=verdict.widened(estimate.covariance, refined.lens.shift))

    def _watch(self, source: Camera) -> LensWatch:
        if source not in self._watches and len(self._watches) >= _MOST_CAMERAS:
            self._watches.clear()
        return self._watches.setdefault(source, LensWatch(is_same_view(source, self.manifest.camera)))

    def _query(self, image: np.ndarray, source: Camera, target: Camera) -> Query:
        return replace(make_query(image, source, target), usual_doubt=self._watch(source).usual_doubt)

    def _judge(self, refined: Refined, T_prior: Tensor, prior_score: float, refiner: str, remoteness: float,
               ) -> tuple[Tensor, Tensor, str, float]:
        """Pose, covariance, status and score of what is reported."""
        spec, prior = self.manifest.refiners.get(refiner), self.manifest.covariance
        if refined.cut_short:   # neither it nor the prior beside it was calibrated for where that happened to end
            return T_prior, prior, 'rejected', 0.0
        if spec is None:   # a refiner that the build did not calibrate: its word, and the regressor's uncertainty
            status = 'prior_kept' if refined.failed else 'refined'
            return (T_prior if refined.failed else refined.T_map_cam), prior, status, prior_score
        judgement = spec.gate.judge(refined, T_prior, prior, prior_score)
        if judgement.status == 'refined':
            covariance = spec.covariance.covariance(refined.hessian, prior, judgement.score, remoteness)
            return refined.T_map_cam, covariance, judgement.status, judgement.score
        return T_prior, prior, judgement.status, judgement.score

    def _source(self, image: np.ndarray, camera: Camera | None) -> Camera:
        own = self.manifest.taken_by or self.manifest.camera
        height, width = image.shape[:2]
        if camera is None and not may_have_taken(own, width, height):
            raise AprlocError(f'the image is {width}x{height}, not of the aspect of the map\'s camera '
                              f'({own.width}x{own.height}); give the camera that took it: --camera fx,fy,cx,cy or camera_info')
        return self.manifest.source(camera, width, height)

    def _looked_through(self, query: Query, refiner: str) -> Query:
        """With features, where regressor and refiner go by the same."""
        if not isinstance(self._regressor, CoordinateRegressor):
            return query
        return self._where_there_is_room(lambda: look_through(self._bundle, query.to(self._device), refiner))

    def _regress(self, query: Query) -> Tensor:
        """The raw pose [3, 4] float64 on the CPU."""
        return self._where_there_is_room(lambda: self._regressed(query.to(self._device)))

    @torch.inference_mode()
    def _regressed(self, here: Query) -> Tensor:
        if here.features is not None:
            return self._regressor.pose(here.features, here.camera)[0].double().cpu()
        return self._regressor(here.image[None])[0].double().cpu()

    def _refine(self, query: Query, starts: Tensor, refiner: str, budget: Budget) -> Refined:
        return self._where_there_is_room(lambda: self._refiners[refiner].refine(query.to(self._device), starts, budget))

    def _where_there_is_room(self, work: Callable[[], Answer]) -> Answer:
        """What it gives on the device, or on the CPU from now on where the device is out of memory."""
        try:
            return work()
        except RuntimeError as error:
            if self._device.type == 'cpu' or not is_out_of_memory(error):
                raise
        # Behind the clause: an error that is still handled holds the tensors that fill the memory.
        logger.warning('%s is out of memory: continuing on the CPU', self._device)
        self._place(torch.device('cpu'))
        self._make_refiners()
        return work()

    def _place(self, device: torch.device) -> None:
        if self._bundle.extractor is not None:
            device = place(self._bundle.extractor, device)
        self._device = place(self._regressor, device)

    def _make_refiners(self) -> None:
        """The one that was asked for, and the quick one where the build calibrated both and time is short."""
        names, calibrated = [self.refiner_name], self.manifest.refiners
        if math.isfinite(self._budget.milliseconds) and {self.refiner_name, QUICK_REFINER} <= calibrated.keys():
            names.append(QUICK_REFINER)
        self._refiners = {name: make_refiner(name, self._bundle, self._device) for name in dict.fromkeys(names)}


class _Clock:
    """Laps of one query, in milliseconds."""

    def __init__(self):
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name], self._last = 1e3 * (now - self._last), now

    def total(self) -> dict[str, float]:
        return {**self._laps, 'total': 1e3 * (self._last - self._start)}


def check_image(image: np.ndarray) -> np.ndarray:
    """The image when it is [H, W, 3] uint8 with at least one pixel, contiguous; AprlocError otherwise."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise AprlocError(f'the image must be a uint8 array, not {getattr(image, "dtype", type(image).__name__)}')
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise AprlocError(f'the image must be height x width x 3 (RGB) and not empty, not {"x".join(map(str, image.shape))}')
    return np.ascontiguousarray(image)


def rotation_score(matrix: Tensor) -> float:
    """exp(-|M - R|) with R the rotation nearest to M [3, 3], Frobenius norm: 1 for a rotation."""
    return math.exp(-(matrix - nearest_rotation(matrix)).norm().item())
