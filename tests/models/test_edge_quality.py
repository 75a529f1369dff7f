"""GFLv2's quality from the edge distributions."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from device_waits import waits
from gfocal.losses.gfl import quality_focal_loss
from gfocal.models.edge_quality import EdgeQuality, largest_by_planes, multiply_scores, softplus
from gfocal.models.heads import GFLHead
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import gfl_r18_fpn

logits = st.floats(-60, 60)


def as_published(layer: EdgeQuality, box_logits: Tensor) -> Tensor:
    """The quality as the paper writes it: probabilities first, their largest, the mean of these."""
    p = box_logits.softmax(-1).sort(-1, descending=True).values[..., :4]
    read = torch.cat((p, p.mean(-1, keepdim=True)), -1)
    hidden = torch.einsum("bpes,hes->bph", read, layer.hidden.weight.unflatten(1, (4, 5))) + layer.hidden.bias
    return hidden.relu() @ layer.out.weight.T + layer.out.bias


@given(c=logits, r=logits)
def test_the_logit_is_that_of_the_product(c: float, r: float):
    given_logits = torch.tensor([[[c]]], dtype=torch.float64), torch.tensor([[[r]]], dtype=torch.float64)
    product = torch.sigmoid(given_logits[0]) * torch.sigmoid(given_logits[1])
    found = multiply_scores(*given_logits)
    assert torch.allclose(torch.sigmoid(found), product, rtol=1e-7, atol=1e-30)
    assert found <= min(c, r) + 1e-6  # a product of probabilities is at most either


def test_nothing_rounds_to_an_impossible_score_in_float32():
    c, r = torch.tensor([[[90.0, -90.0]]]), torch.tensor([[[90.0], [-90.0]]]).view(2, 1, 1)
    found = multiply_scores(c.expand(2, 1, 2), r)
    assert found.isfinite().all()
    assert torch.allclose(found, torch.tensor([[[90.0, -90.0]], [[-90.0, -180.0]]]), atol=1.0)


def test_the_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = EdgeQuality(9).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    edges = torch.randn(1, 3, 4, 9, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e, c: multiply_scores(c, layer(e)), (edges, scores))


def test_it_reads_what_the_paper_says():
    torch.manual_seed(0)
    layer = EdgeQuality(17)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    edges = 3 * torch.randn(2, 5, 4, 17)
    assert torch.allclose(layer(edges), as_published(layer, edges), atol=1e-5)


def test_a_cpu_without_gradients_computes_the_same_by_other_operations():
    torch.manual_seed(0)
    layer = EdgeQuality(17)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    edges = 3 * torch.randn(2, 50, 4, 17)
    edges[0, :9] = 0.0  # ties
    edges[1, :9, :, 3] = 300.0
    scores = 30 * torch.randn(2, 50, 7)
    found = layer(edges)
    with torch.no_grad():
        assert torch.allclose(layer(edges), found, atol=1e-6)
        assert torch.allclose(largest_by_planes(edges), edges.softmax(-1).topk(4, -1).values, atol=1e-7)
        fast = multiply_scores(scores, found)
        x = torch.tensor([-200.0, -20.0, -1e-3, 0.0, 1e-3, 20.0, 200.0])
        assert torch.allclose(softplus(x), torch.nn.functional.softplus(x), rtol=1e-6, atol=1e-7)
    assert torch.allclose(fast, multiply_scores(scores.requires_grad_(), found), rtol=1e-6, atol=1e-6)


def test_neither_place_nor_order_of_the_bins_matters_only_the_shape():
    torch.manual_seed(0)
    layer, edges = EdgeQuality(17), torch.randn(1, 6, 4, 17)
    assert torch.allclose(layer(edges), layer(edges[..., torch.randperm(17)] + 5.0), atol=1e-6)


def test_the_head_scores_the_product_and_qfl_trains_it():
    torch.manual_seed(0)
    plain = GFLHead(3, 16, 16, 1, num_groups=4)
    head = GFLHead(3, 16, 16, 1, num_groups=4, dgqp=True)
    head.load_state_dict(plain.state_dict(), strict=False)
    maps = [torch.randn(1, 16, side, side) for side in (8, 4, 2, 1, 1)]
    before, after = plain(maps), head(maps)
    assert torch.equal(before.box_logits, after.box_logits)
    assert head.edge_quality is not None
    product = before.cls_logits.sigmoid() * as_published(head.edge_quality, before.box_logits).sigmoid()
    assert torch.allclose(after.cls_logits.sigmoid(), product, atol=1e-6)
    # The gradient of the score reaches the distributions, as published.
    quality_focal_loss(after.cls_logits, torch.full_like(after.cls_logits, 0.7)).sum().backward()
    assert head.box_out.weight.grad is not None
    assert head.box_out.weight.grad.abs().sum() > 0


def test_too_few_bins():
    with pytest.raises(ValueError, match="4 largest probabilities of an edge, and n = 2 has fewer"):
        gfl_r18_fpn(2, pretrained=False, channels=16, num_convs=1, n=2, dgqp=True)


def test_a_file_keeps_it_and_one_of_before_has_none(tmp_path):
    model = gfl_r18_fpn(2, pretrained=False, channels=16, num_convs=1, dgqp=True).eval()
    save_model(model, tmp_path / "a.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "a.safetensors")(images).cls_logits, model(images).cls_logits)
    older = gfl_r18_fpn(2, pretrained=False, channels=16, num_convs=1)
    del older.built_from["options"]["dgqp"]
    save_model(older, tmp_path / "b.safetensors")
    assert load_model(tmp_path / "b.safetensors").head.edge_quality is None


def test_scores_and_gradients_wait_for_nothing_and_compile_into_one_graph():
    torch.manual_seed(0)
    layer, edges = EdgeQuality(17), torch.randn(2, 6, 4, 17)
    scores = torch.randn(2, 6, 3, requires_grad=True)

    def loss(c: Tensor, e: Tensor) -> Tensor:
        return multiply_scores(c, layer(e)).square().sum()

    assert waits(lambda: loss(scores, edges).backward()) == Counter()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(scores, edges), loss(scores, edges))
