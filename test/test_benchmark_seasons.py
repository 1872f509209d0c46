"""`aprloc benchmark seasons` on a straight path whose answers are known."""

import types

import cv2
import numpy as np
import torch

from aprloc_ros.training.benchmarks import seasons


def along(metres, turned=False):
    T = torch.eye(4, dtype=torch.float64)
    T[2, 3] = metres
    if turned:
        T[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    return T


def test_answers_are_counted_by_how_many_frames_they_are_off(monkeypatch, tmp_path, capsys):
    """Ten frames a metre apart; of five queries one is 0.4 m off, one 3, one 5, one rejected and one of no frame."""
    frames = [types.SimpleNamespace(name=f'images/{i:04d}.jpg', T_map_cam=along(i), camera=None) for i in range(10)]
    capture = types.SimpleNamespace(train=frames[::2], test=frames[1::2])
    said = {2: ('refined', along(2.4)), 3: ('refined', along(6.0)), 4: ('prior_kept', along(9.0)), 5: ('rejected', along(99.0))}
    for i in (*said, 77):
        cv2.imwrite(str(tmp_path / f'{i:04d}.png'), np.full((4, 4, 3), i, np.uint8))

    def localize(image, camera):
        status, T_map_cam = said[int(image[0, 0, 0])]
        return types.SimpleNamespace(status=status, T_map_cam=T_map_cam)
    monkeypatch.setattr(seasons, 'read_capture', lambda path: capture)
    monkeypatch.setattr(seasons, 'find_map', lambda name, directory: None)
    monkeypatch.setattr(seasons, 'load_map', lambda path, device: None)
    monkeypatch.setattr(seasons, 'Localizer', lambda bundle, device: types.SimpleNamespace(localize=localize))
    seasons.benchmark_seasons(types.SimpleNamespace(name='park', data=None, map_dir=None, device='cpu', queries=tmp_path))
    assert '4 images' in (printed := capsys.readouterr().out)
    assert printed.strip().endswith('3 answered, 2 within 3 frames of their own, 1 farther off: 0004')


def test_a_view_that_looks_back_is_of_another_place():
    poses = torch.stack([along(0), along(1, turned=True), along(2)])
    assert seasons._frame_of(along(1.2), poses) == 2
