"""The regressor of scene coordinates: its fit against exact poses, its gradient, and what it learns of a wall."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_capture import CAMERA, write_settings, write_wall

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, pose_errors, so3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map, save_map
from aprloc_ros.networks import build_regressor, to_T
from aprloc_ros.networks.coordinates import CoordinateRegressor, Coordinates, cell_centres, cell_inputs
from aprloc_ros.networks.extractor import Extractor
from aprloc_ros.networks.pose_fit import fit_pose
from aprloc_ros.refinement.refined import Query, make_query
from aprloc_ros.training.build_map import build
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.stages.coordinates import Cells, coordinate_loss

CELLS = Camera(20, 15, 16.0, 17.0, 9.4, 7.2)
TRUTH = pose(so3_exp(torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64)), torch.tensor([0.3, -0.2, -1.5], dtype=torch.float64))


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of a camera at TRUTH look, at depths from 1 to 4, and their centres."""
    cells = cell_centres(CELLS.height, CELLS.width)
    depth = 1 + 3 * torch.rand(len(cells), 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rays = CELLS.directions().double().view(-1, 3)
    return (rays * depth) @ TRUTH[:3, :3].T + TRUTH[:3, 3], cells


def test_exact_coordinates_give_the_exact_pose():
    xyz, cells = scene()
    T, share = fit_pose(xyz, torch.ones(len(xyz)), cells, CELLS)
    torch.testing.assert_close(T, TRUTH, atol=1e-7, rtol=0)
    assert share == 1


def test_wrong_coordinates_are_outvoted():
    """Two fifths of the cells look anywhere, and say so no more than the others."""
    xyz, cells = scene()
    wrong = torch.randperm(len(xyz), generator=torch.Generator().manual_seed(1))[:2 * len(xyz) // 5]
    xyz[wrong] = 4 * torch.rand(len(wrong), 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    T, share = fit_pose(xyz, torch.ones(len(xyz)), cells, CELLS)
    error_m, error_deg = pose_errors(T, TRUTH)
    assert error_m < 0.01 and error_deg < 0.2 and 0.58 < share < 0.66


def test_sure_cells_count_for_more():
    """Noise of its own on every cell: weighing by how large it is must beat weighing all alike."""
    xyz, cells = scene()
    generator = torch.Generator().manual_seed(3)
    size = torch.where(torch.rand(len(xyz), generator=generator) < 0.5, 0.002, 0.05).double()
    noisy = xyz + size[:, None] * torch.randn(xyz.shape, generator=generator, dtype=torch.float64)
    known, alike = (pose_errors(fit_pose(noisy, how, cells, CELLS)[0], TRUTH)[0] for how in (20 * size, torch.ones(len(xyz))))
    assert known < alike / 2


def test_the_gradient_is_that_of_the_fitted_pose():
    """Against finite differences of the whole fit, consensus included."""
    xyz, cells = scene()
    generator = torch.Generator().manual_seed(4)
    noisy = xyz + 0.003 * torch.randn(xyz.shape, generator=generator, dtype=torch.float64)
    probe = torch.randn(4, 4, generator=generator, dtype=torch.float64)

    def value(at: torch.Tensor) -> torch.Tensor:
        return (fit_pose(at, torch.ones(len(at)), cells, CELLS)[0] * probe).sum()
    leaf = noisy.clone().requires_grad_(True)
    value(leaf).backward()
    for seed in range(3):
        along = torch.randn(xyz.shape, generator=torch.Generator().manual_seed(10 + seed), dtype=torch.float64)
        numeric = (value(noisy + 1e-5 * along) - value(noisy - 1e-5 * along)) / 2e-5
        assert (leaf.grad * along).sum() == pytest.approx(numeric.item(), rel=0.1, abs=1e-3)


@pytest.mark.parametrize('xyz', [torch.full((300, 3), torch.nan), torch.zeros(300, 3), torch.zeros(2, 3)])
def test_coordinates_without_a_pose_give_none(xyz):
    assert fit_pose(xyz.double(), torch.ones(len(xyz)), cell_centres(15, 20)[:len(xyz)], CELLS) is None


def small() -> tuple[CoordinateRegressor, Extractor]:
    torch.manual_seed(0)
    extractor = Extractor(width=0.34, coarse_channels=8, fine_channels=4).eval()
    model = build_regressor('coordinates', {'prototypes': 16, 'hidden': 8, 'descriptor_channels': 8,
                                            'context_channels': extractor.backbone.levels[2][0]})
    return model.see_through(extractor, Camera(64, 48, 50.0, 50.0, 31.5, 23.5)).eval(), extractor


def test_an_image_that_nothing_fits_is_no_rotation():
    """All prototypes in one place: no pose, and a 3x3 that says so."""
    model, _ = small()
    torch.nn.init.zeros_(model.leave.weight)
    raw = model(torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)))
    assert raw.shape == (2, 3, 4) and (raw[:, :, :3].norm(dim=(1, 2)) < 0.1).all()
    assert torch.isfinite(to_T(raw)).all()


def test_its_extractor_is_no_part_of_its_weights_and_goes_along():
    model, extractor = small()
    assert not any('backbone' in key for key in model.state_dict())
    model.to(torch.float64)
    assert next(extractor.parameters()).dtype == torch.float64
    copied = copy.deepcopy(model)
    assert {id(p) for p in copied.parameters()}.isdisjoint({id(p) for p in model.parameters()})


def test_what_a_cell_sees_is_itself_its_surroundings_and_the_image():
    _, extractor = small()
    features = extractor(torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)))
    inputs = cell_inputs(features)
    context = features.context.shape[1]
    assert inputs.shape == (1, 8 + 2 * context, 6, 8)
    torch.testing.assert_close(inputs[:, :8], features.coarse)
    torch.testing.assert_close(inputs[0, -context:, 3, 5], features.context[0].mean((1, 2)))


def test_the_loss_is_a_distance_in_cells():
    """A point 10 cm beside its place at 2 m, seen with a focal length of 20 cells: one cell; across its ray, too."""
    T = torch.eye(4)[:3].expand(3, 3, 4)
    xyz = torch.tensor([[0.1, 0.0, 2.0]]).expand(3, 3)
    cells = Cells(torch.zeros(3, 4), torch.zeros(3, 2), torch.full((3,), 20.0), T, torch.tensor([[0.0, 0.0, 2.0]]).expand(3, 3))
    said = Coordinates(xyz.clone(), torch.ones(3), torch.zeros(3, 2))
    _, error = coordinate_loss(said, cells, torch.tensor([True, False, True]), 2.0)
    torch.testing.assert_close(error, torch.ones(3))
    behind = said._replace(xyz=torch.tensor([[0.0, 0.0, -2.0]]).expand(3, 3))
    assert coordinate_loss(behind, cells, torch.tensor([False] * 3), 2.0)[1][0] == pytest.approx(40.0)


@pytest.mark.parametrize('arguments, error', [({'prototypes': 0}, 'prototypes 0 must be a whole number from 1 to'),
                                              ({'hidden': 2.5}, 'hidden 2.5 must be a whole number'),
                                              ({'backbone': 'vgg16'}, "no argument 'backbone'")])
def test_bad_arguments_are_named(arguments, error):
    with pytest.raises(AprlocError, match=error):
        build_regressor('coordinates', arguments)


@pytest.fixture(scope='module')
def wall_map(one_thread, tmp_path_factory):
    wall = write_wall(tmp_path_factory.mktemp('captures') / 'wall', camera=CAMERA.resized(160, 120))
    config = write_settings(tmp_path_factory.mktemp('settings') / 'tiny.yaml',
                            regressor={'kind': 'coordinates', 'arguments': {'prototypes': 128, 'hidden': 32}, 'steps': 300,
                                       'learning_rate': 4e-3},
                            descriptors={'steps': 100, 'short_side': 120, 'points': 128}, coordinates={'images': 160, 'batch': 512})
    return wall, build('wall', wall, map_dir=tmp_path_factory.mktemp('maps'), config=config, device='cpu')


def test_a_build_learns_where_cells_look(wall_map):
    """Held-out images: the surer half of the cells against where their rays meet the wall, and against knowing nothing."""
    wall, directory = wall_map
    bundle = load_map(directory, 'cpu')
    m = bundle.manifest
    assert m.regressor.kind == 'coordinates' and m.camera == m.descriptors.camera
    small = m.camera.resized(m.camera.width // 8, m.camera.height // 8)
    off_m, spread_m = [], []
    for frame in read_capture(wall).test:
        image = make_query(frame.read_image(), frame.camera, m.camera).image
        with torch.inference_mode():
            said = bundle.regressor.coordinates(cell_inputs(bundle.extractor(image[None]))[0].flatten(1).T)
        there = m.scene.points_to_map(said.xyz * (m.scene.pose_unit_m / m.scene.scene_unit_m))
        rays = small.directions().double().view(-1, 3) @ frame.T_map_cam[:3, :3].T
        centre = frame.T_map_cam[:3, 3]
        truth = centre - centre[2] / rays[:, 2:] * rays
        spread_m.append((truth - truth.mean(0)).norm(dim=1))
        off_m.append((there - truth).norm(dim=1)[said.deviation.argsort()[:len(truth) // 2]])
    assert torch.cat(off_m).median() < torch.cat(spread_m).median() / 2


def test_node_and_networks_alone_agree(wall_map):
    """What the localizer answers from features that it shares is what the regressor says of the image."""
    wall, directory = wall_map
    bundle, frame = load_map(directory, 'cpu'), read_capture(wall).test[0]
    shared = Localizer(bundle, 'cpu', 'nre').localize(frame.read_image(), frame.camera)
    alone = Localizer(bundle, 'cpu', 'none').localize(frame.read_image(), frame.camera)
    torch.testing.assert_close(shared.T_prior, alone.T_prior)


def test_features_go_where_their_query_goes():
    """A query that meets a full GPU goes on on the CPU, with what was extracted before; 'meta' stands for one of them."""
    _, extractor = small()
    image = torch.rand(1, 3, 48, 64)
    gone = Query(image[0], Camera(64, 48, 50.0, 50.0, 31.5, 23.5), torch.zeros(10), features=extractor(image)).to('meta')
    assert {each.device.type for each in (gone.image, gone.features.coarse, gone.features.fine, gone.features.context)} == {'meta'}


@pytest.mark.parametrize('refiner', ['nre', 'nre_quick', 'align', 'none'])
def test_an_image_is_looked_through_once(wall_map, refiner):
    """Regressor and refiner go by the same features."""
    wall, directory = wall_map
    bundle, frame, looks = load_map(directory, 'cpu'), read_capture(wall).test[0], []
    bundle.extractor.register_forward_hook(lambda *_: looks.append(1))
    Localizer(bundle, 'cpu', refiner).localize(frame.read_image(), frame.camera)
    assert looks == [1]


def test_a_map_without_descriptors_cannot_have_one(wall_map, tmp_path):
    bundle = load_map(wall_map[1], 'cpu')
    bare = save_map(tmp_path / 'bare', replace(bundle.manifest, descriptors=None, refiner='none', refiners={}),
                    bundle.regressor, bundle.field)
    with pytest.raises(AprlocError, match='a regressor of kind coordinates needs descriptors; rebuild the map'):
        load_map(bare, 'cpu')
