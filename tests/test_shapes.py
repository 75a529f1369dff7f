"""The shapes that signatures state are executed: jaxtyping and beartype check every call of a training step.

In a process of its own, because the checks wrap functions when they are imported, and torch.compile is tested
on the unwrapped ones elsewhere.
"""

import subprocess
import sys

CODE = """
from jaxtyping import install_import_hook
install_import_hook(
    ["gfocal.losses", "gfocal.ops.distributions", "gfocal.criteria.gfl", "gfocal.assigners"], "beartype.beartype"
)
import torch
from gfocal.criteria.gfl import GFLCriterion, rows
from gfocal.losses import distribution_focal_loss, focal_loss, generalized_focal_loss, giou_loss, quality_focal_loss
from gfocal.models.zoo import gfl_r18_fpn
from gfocal.structures import pad_targets

torch.set_num_threads(1)
model = gfl_r18_fpn(3, pretrained=False, channels=32, num_convs=1)
boxes = [torch.tensor([[4.0, 8, 40, 50]]), torch.zeros(0, 4)]
targets = pad_targets(boxes, [torch.tensor([1]), torch.zeros(0).long()])
losses = GFLCriterion(box_coder=model.box_coder)(
    model(torch.randn(2, 3, 64, 96)), targets, torch.tensor([[64, 96], [60, 90]])
)
losses.total.backward()
x = torch.randn(5, 2)
focal_loss(x, torch.ones(5, 2)), generalized_focal_loss(x, x, x.sigmoid())

wrong = (
    lambda: quality_focal_loss(x, torch.rand(5)),
    lambda: quality_focal_loss(torch.ones(5, dtype=torch.int64), torch.rand(5)),
    lambda: distribution_focal_loss(torch.randn(5, 17), torch.rand(4)),
    lambda: giou_loss(torch.rand(5, 4), torch.rand(6, 4)),
    lambda: rows(torch.rand(2, 7, 4), torch.zeros(3, 5, dtype=torch.int64)),
)
for call in wrong:
    try:
        call()
    except Exception as error:
        assert "jaxtyping" in type(error).__module__ or "beartype" in type(error).__module__, repr(error)
    else:
        raise SystemExit("a wrong shape went unnoticed")
print("checked")
"""


def test_a_training_step_keeps_to_the_shapes_that_signatures_state():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "checked"
