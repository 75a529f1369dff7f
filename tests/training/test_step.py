"""One step: predict, compare, move."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gfocal.criteria.gfl import GFLCriterion
from gfocal.errors import DeviceError
from gfocal.models.detector import Detector
from gfocal.models.zoo import create
from gfocal.structures import Batch, pad_targets
from gfocal.training import distributed
from gfocal.training.distributed import Devices
from gfocal.training.step import training_step


@pytest.fixture
def model() -> Detector:
    torch.manual_seed(0)
    return create("gfl_r18_fpn", 2, pretrained=False, channels=32, num_convs=1).train()


def batch(count: int = 2, objects: bool = True) -> Batch:
    torch.manual_seed(1)
    sizes = torch.tensor([[64, 64]] * count)
    boxes = [torch.tensor([[8.0, 8.0, 56.0, 48.0]])[: int(objects)] for _ in range(count)]
    labels = [torch.tensor([1])[: int(objects)] for _ in range(count)]
    return Batch(torch.randn(count, 3, 64, 64), pad_targets(boxes, labels), sizes, sizes, tuple(range(count)))


def weights(model: Detector) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.named_parameters()}


def moved(model: Detector, before: dict[str, torch.Tensor]) -> float:
    return sum(float((value.detach() - before[key]).abs().sum()) for key, value in model.named_parameters())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_moves_the_weights_and_leaves_no_gradient(model: Detector, precision: str) -> None:
    devices = Devices(precision, cpu=True)  # type: ignore[arg-type]
    wrapped, optimizer = devices.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    before = weights(model)
    losses = training_step(wrapped, GFLCriterion(), batch(), optimizer, devices)
    assert losses.total.dtype == torch.float32
    assert torch.isfinite(losses.total)
    assert losses.num_positives > 0
    assert moved(model, before) > 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert devices.is_step_end


def test_a_batch_without_objects_is_a_step_like_any_other(model: Detector) -> None:
    devices = Devices(cpu=True)
    wrapped, optimizer = devices.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    losses = training_step(wrapped, GFLCriterion(), batch(objects=False), optimizer, devices)
    assert losses.num_positives == 0
    assert losses.terms()["box"] == losses.terms()["dfl"] == 0
    assert torch.isfinite(losses.total)


def test_clipping_bounds_how_far_a_step_goes(model: Detector) -> None:
    for norm, least, most in ((0.0, 0.02, 1e9), (1e-3, 0.0, 1.001e-3)):
        fresh = create("gfl_r18_fpn", 2, pretrained=False, channels=32, num_convs=1).train()
        fresh.load_state_dict(model.state_dict())
        devices = Devices(cpu=True)
        wrapped, optimizer = devices.prepare(fresh, torch.optim.SGD(fresh.parameters(), lr=1.0))
        before = weights(fresh)
        training_step(wrapped, GFLCriterion(), batch(), optimizer, devices, norm)
        squares = sum(float((v.detach() - before[k]).square().sum()) for k, v in fresh.named_parameters())
        assert least <= squares**0.5 <= most


def test_the_gradients_of_accumulated_batches_are_averaged(model: Detector) -> None:
    """Two batches of one step move the weights by the mean of what each would do alone."""
    model.eval()  # BatchNorm must not tell the batches apart
    one = batch()
    two = replace(one, images=one.images.flip(3))
    start = weights(model)
    deltas = []
    for accumulate, batches in ((1, [one]), (1, [two]), (2, [one, two])):
        model.load_state_dict(start, strict=False)
        devices = Devices(grad_accum_steps=accumulate, cpu=True)
        wrapped, optimizer = devices.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for number, one_batch in enumerate(batches, 1):
            training_step(wrapped, GFLCriterion(), one_batch, optimizer, devices)
            assert devices.is_step_end == (number == len(batches))
        deltas.append({key: value.detach() - start[key] for key, value in model.named_parameters()})
    for key, value in deltas[2].items():
        torch.testing.assert_close(value, (deltas[0][key] + deltas[1][key]) / 2, atol=1e-5, rtol=1e-3)


def test_the_last_batch_of_an_epoch_completes_a_step(model: Detector) -> None:
    devices = Devices(grad_accum_steps=3, cpu=True)
    wrapped, optimizer = devices.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    ends = []
    for _epoch in range(2):
        for number in range(4):
            devices.is_last_batch = number == 3
            training_step(wrapped, GFLCriterion(), batch(1), optimizer, devices)
            ends.append(devices.is_step_end)
    assert ends == [False, False, True, True] * 2


def test_settings_of_one_run_do_not_bind_the_next() -> None:
    for precision, accumulate in (("no", 1), ("bf16", 4), ("no", 2)):
        devices = Devices(precision, accumulate, cpu=True)  # type: ignore[arg-type]
        assert devices.accelerator.mixed_precision == precision
        assert devices.accelerator.gradient_accumulation_steps == accumulate
    assert (devices.rank, devices.world_size, devices.is_main) == (0, 1, True)
    assert devices.device.type == "cpu"


def test_the_loss_scale_of_fp16_is_restored() -> None:
    devices, again = Devices("no", cpu=True), Devices("no", cpu=True)
    assert devices.state_dict() == {}
    devices.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    again.accelerator.scaler = torch.amp.GradScaler("cpu")
    assert again.state_dict() != devices.state_dict()
    again.load_state_dict(devices.state_dict())
    assert again.state_dict() == devices.state_dict()
    Devices("no", cpu=True).load_state_dict(devices.state_dict())  # the scale is of no use there, and no error


def test_an_unsupported_precision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: object) -> None:
        raise ValueError("fp16 mixed precision requires\na GPU")

    monkeypatch.setattr("accelerate.Accelerator", refuses)
    with pytest.raises(DeviceError, match=r"'fp16' does not work here: .* requires a GPU; use 'bf16' or 'no'"):
        Devices("fp16", cpu=True)


def test_several_processes_that_would_each_train_everything_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate is then one process by itself, whatever the launcher said."""
    alone = SimpleNamespace(num_processes=1, device=torch.device("mps"), process_index=0)
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: alone)
    monkeypatch.setattr(distributed, "has_accelerator", lambda: True)
    Devices()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match=r"one of 2, but on mps they cannot share the work; .*--set run\.cpu=true"):
        Devices()


def test_a_process_that_cannot_meet_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: object) -> None:
        raise ValueError("environment variable MASTER_ADDR expected, but not set")

    monkeypatch.setattr("accelerate.Accelerator", refuses)
    with pytest.raises(DeviceError, match=r"cannot connect to the others: .* MASTER_ADDR .*torchrun") as error:
        Devices(cpu=True)
    assert "precision" not in str(error.value)


@pytest.mark.parametrize(("native", "found"), [(True, "bf16"), (False, "no")])
def test_auto_is_bf16_on_a_cpu_that_computes_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, found: distributed.Precision
) -> None:
    monkeypatch.setattr(distributed, "is_bf16_native", lambda _: native)
    assert distributed.choose_precision("auto", cpu=True) == found
    assert Devices("auto", cpu=True).accelerator.mixed_precision == found
    assert [distributed.choose_precision(kind, cpu=True) for kind in ("no", "bf16", "fp16")] == ["no", "bf16", "fp16"]


def test_auto_is_float32_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_bf16_native", lambda _: True)
    monkeypatch.setattr(distributed, "has_accelerator", lambda: True)
    assert distributed.choose_precision("auto") == "no"
    assert distributed.choose_precision("auto", cpu=True) == "bf16"
