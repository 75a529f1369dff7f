"""What ends a run early; ``test_loop.py`` has the runs that end so."""

from __future__ import annotations

import pytest
import torch

from gfocal.data.preparation import InputSettings
from gfocal.structures import Losses
from gfocal.training.failures import NonFiniteLoss, NothingToLearn, check_finite, check_learned

SIZE = InputSettings(short_side=8, long_side=11)


def test_a_sound_epoch_passes() -> None:
    levels = torch.ones(5)
    check_finite(Losses(levels, levels, levels, torch.tensor(1.0)).terms(), (1,), 1)
    check_learned(torch.tensor(0.5), 3, SIZE)  # a mean over processes may be less than one


def test_the_messages_are_of_one_line() -> None:
    levels = torch.tensor([0.0, torch.nan])
    with pytest.raises(NonFiniteLoss, match=r"step 7 \(cls nan, box nan, dfl nan\).* image ids 3, 4\.") as error:
        check_finite(Losses(levels, levels, levels, torch.tensor(1.0)).terms(), (3, 4), 7)
    assert "\n" not in str(error.value)
    with pytest.raises(NothingToLearn, match=r"in 1 picture at 8 x 11 pixels no object.*--short-side") as error:
        check_learned(torch.tensor(0.0), 1, SIZE)
    assert "\n" not in str(error.value)
