"""`aprloc benchmark descriptors`: triangulated tracks or the field's surfaces, to learn on and to map (NRE section 6)."""

import torch

from aprloc_ros.catalogue import find_map
from aprloc_ros.map_bundle import load_map
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.scoring.evaluation import score_poses
from aprloc_ros.training.benchmarks.nre import scores_row
from aprloc_ros.training.benchmarks.refine import Question, ask, refine
from aprloc_ros.training.build_map import Build, Request
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import load_views
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.stages.descriptors import train_extractor
from aprloc_ros.training.stages.points import build_points
from aprloc_ros.training.structure.depth_points import points_from_field


def benchmark_descriptors(options):
    """The same estimator with points and descriptors from two geometries; tracks are the map's, surfaces are trained here."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    capture, preset = read_capture(options.data), load_preset(options.preset, options.config)
    build = Build(Request('descriptors', capture, options.preset, preset, 0, 'none'), options.work / 'descriptors', options.device)
    questions = ask(bundle, capture.test[::options.every], options.device)
    print(f'{options.name}: {len(questions)} held-out frames, no prior, on {describe_hardware(build.fabric.device)}')
    print('| points to learn on and to map | median cm / deg | p95 cm / deg | 5cm5deg | 25cm2deg |\n|' + '---|' * 5)
    print(_row('tracks', NreRefiner(bundle.extractor, bundle.points), questions), flush=True)
    views = load_views(build.fit, bundle.manifest.descriptors.camera)
    surfaces = points_from_field(bundle.field, bundle.manifest.scene, build.views(build.fit, preset.field.short_side), 0)
    extractor = train_extractor(build.fabric, views, surfaces, preset.descriptors, 0, build.work_dir)
    points = build_points(extractor, views, surfaces, preset.map_points)
    print(_row("the field's surfaces", NreRefiner(extractor, points), questions))


def _row(name: str, refiner: NreRefiner, questions: list[Question]) -> str:
    poses = torch.stack([refine(refiner, q, torch.zeros(0, 4, 4, dtype=torch.float64)).T_map_cam for q in questions])
    return scores_row(name, score_poses(poses, torch.stack([question.T_truth for question in questions])))
