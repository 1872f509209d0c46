"""`aprloc benchmark priors`: first poses of several makers, before and after each refiner (NeFeS Tables 3 and 4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.atlas import KIND, load_atlas
from aprloc_ros.catalogue import find_atlas, find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.refinement.points.retrieval import ViewIndex
from aprloc_ros.refinement.refined import Refiner
from aprloc_ros.refinement.rendering.align import AlignRefiner
from aprloc_ros.refiners import fine_features, make_refiner
from aprloc_ros.scoring.evaluation import score_poses
from aprloc_ros.training.benchmarks.measures.regressors import with_regressor
from aprloc_ros.training.benchmarks.refine import Question, ask, refine
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.hardware import describe_hardware

PRIOR_REFINERS = ('nefes_apr', 'nefes_pose', 'align', 'nre')
_SLOW = ('nefes_apr', 'nefes_pose')
_OWN_START = 'nefes_apr'   # descends in the weights of a regressor


@dataclass(frozen=True)
class Prior:
    """Who says the first pose. bundle: the map with that regressor, None where the prior has none."""

    name: str
    pose: Callable[[Question], Tensor]
    bundle: MapBundle | None


def benchmark_priors(options):
    """Image retrieval and regressors as first poses, alone and refined; no gate."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    test, device = read_capture(options.data).test, resolve_device(options.device)
    asked = {every: test[::every] for every in (options.every, options.every_slow)}
    of_atlas = _of_atlas(bundle, options)   # a name that is none must not wait for what is trained
    priors = [_retrieval(bundle), _regressor(bundle.manifest.regressor.kind, bundle), *_trained(bundle, options), *of_atlas]
    names = options.refiners or PRIOR_REFINERS
    print(f'{options.name}: {len(asked[options.every])} held-out frames, for {" and ".join(_SLOW)} {len(asked[options.every_slow])}, on '
          f'{describe_hardware(device)}; median cm / deg\n| first pose | alone | ' + ' | '.join(names) + ' |\n|' + '---|' * (2 + len(names)))
    for prior in priors:
        with_prior = prior.bundle or bundle
        questions = {every: ask(with_prior, frames, options.device) for every, frames in asked.items()}
        alone = questions[options.every]
        cells = [_errors([prior.pose(q) for q in alone], alone)]
        for name in names:
            chosen = questions[options.every_slow if name in _SLOW else options.every]
            cells.append(_cell(name, prior, with_prior, chosen, device))
        print(f'| {prior.name} | {" | ".join(cells)} |', flush=True)


def _retrieval(bundle: MapBundle) -> Prior:
    """The pose of the map's view that the image is most like."""
    if bundle.points is None:
        raise AprlocError(f'the map {bundle.manifest.name} has no points to retrieve views by; rebuild it with aprloc build')
    index = ViewIndex(bundle.points, next(bundle.extractor.parameters()).device)

    @torch.no_grad()
    def pose(question: Question) -> Tensor:
        coarse = bundle.extractor(question.query.image[None]).coarse[0]
        return bundle.points.view_poses[index.likeness(coarse).argmax()]
    return Prior('retrieval', pose, None)


def _of_atlas(bundle: MapBundle, options) -> list[Prior]:
    if not options.atlas:
        return []
    atlas = load_atlas(find_atlas(options.atlas, options.map_dir) or Path(options.atlas), options.device)
    return [_regressor(f'{KIND} of {options.atlas}', replace(bundle, regressor=atlas.regressor(bundle)))]


def _trained(bundle: MapBundle, options) -> list[Prior]:
    """Regressors of the kinds that were asked for, trained on the field and the frames of the map."""
    configs = {config.stem: config for config in options.regressors}
    return [_regressor(name, with_regressor(bundle, options.data, config, options.work / name, options.device, options.imagenet))
            for name, config in configs.items()]


def _regressor(name: str, bundle: MapBundle) -> Prior:
    return Prior(name, lambda question: question.T_prior, bundle)


def _cell(name: str, prior: Prior, bundle: MapBundle, questions: list[Question], device: torch.device) -> str:
    if name == _OWN_START and prior.bundle is None:
        return '-'
    refiner = _from_the_start_alone(bundle) if name == 'align' else make_refiner(name, bundle, device)
    found = [refine(refiner, q, prior.pose(q)[None]).T_map_cam for q in tqdm(questions, desc=f'{prior.name}, {name}', leave=False,
                                                                            mininterval=2.0)]
    return _errors(found, questions)


def _from_the_start_alone(bundle: MapBundle) -> Refiner:
    """`align` without the map's views that are like the image, which would hide what the first pose was worth."""
    return AlignRefiner(bundle.field, bundle.manifest.scene, fine_features(bundle.extractor))


def _errors(poses: list[Tensor], questions: list[Question]) -> str:
    s = score_poses(torch.stack(poses), torch.stack([q.T_truth for q in questions]))
    return f'{100 * s.median_m:.2f} / {s.median_deg:.3f}'
