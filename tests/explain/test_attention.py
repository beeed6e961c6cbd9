"""Attention methods against a brute-force forward pass of tiny transformers, written out layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain import networks
from tests.explain.networks import SIDE, classifier, image
from tests.explain.test_contract import StopAfter, left_as_found, unsettle
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.explain.compute.attention import grid
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

KINDS = ("vit", "monai-vit")


def brute_force(kind: str, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The pneumonia score and every layer's attention, with loops over heads and no module called as a whole."""
    net = classifier(kind).network
    if kind == "vit":
        tokens = net.conv_proj(x).flatten(2).transpose(1, 2)
        h = torch.cat([net.class_token.expand(1, -1, -1), tokens], 1) + net.encoder.pos_embedding
        blocks = list(net.encoder.layers)
    else:
        net = net.body
        embed = net.patch_embedding
        tokens = embed.patch_embeddings(x).flatten(2).transpose(1, 2) + embed.position_embeddings
        h = torch.cat([net.cls_token, tokens], 1)
        blocks = list(net.blocks)
    attentions = []
    for block in blocks:
        if kind == "vit":
            norm, weight, bias = (
                block.ln_1,
                block.self_attention.in_proj_weight,
                block.self_attention.in_proj_bias,
            )
            out, norm2, mlp = block.self_attention.out_proj, block.ln_2, block.mlp
        else:
            norm, weight, bias = block.norm1, block.attn.qkv.weight, block.attn.qkv.bias
            out, norm2, mlp = block.attn.out_proj, block.norm2, block.mlp
        z = norm(h)[0]
        q, k, v = (z @ w.T for w in weight.chunk(3))
        if bias is not None:
            q, k, v = (a + b for a, b in zip((q, k, v), bias.chunk(3), strict=True))
        size = q.shape[1] // 2
        parts, layer = [], []
        for head in range(2):
            cut = slice(head * size, (head + 1) * size)
            a = torch.softmax(q[:, cut] @ k[:, cut].T / size**0.5, 1)
            layer.append(a)
            parts.append(a @ v[:, cut])
        attentions.append(torch.stack(layer))
        # the graph must run through the stack, so that it has a gradient
        joined = torch.cat([attentions[-1][i] @ v[:, i * size : (i + 1) * size] for i in range(2)], 1)
        h = h + out(joined)[None]
        h = h + mlp(norm2(h))
    z = net.heads(net.encoder.ln(h)[:, 0]) if kind == "vit" else net.classification_head(net.norm(h)[:, 0])
    return z[0, 1] - z[0, 0], attentions


def run(name: str, kind: str, **params: str) -> Explanation:
    return registry.create(name, **params).explain(
        classifier(kind), image(3 if kind == "vit" else 1, padding=0), "pneumonia", Run()
    )


def over_image(cells: np.ndarray) -> np.ndarray:
    planes = torch.from_numpy(cells.reshape(1, 1, 4, 4))
    return nn.functional.interpolate(planes, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_is_the_product_of_what_the_layers_attend_to(kind: str, heads: str) -> None:
    x = torch.from_numpy(image(3 if kind == "vit" else 1, padding=0).array[None].copy())
    _, attentions = brute_force(kind, x)
    flow = np.eye(17)
    for layer in attentions:
        a = layer.detach().double().numpy()
        one = {"mean": a.mean(0), "max": a.max(0), "min": a.min(0)}[heads] + np.eye(17)
        flow = (one / one.sum(1)[:, None]) @ flow
    found = run("attention-rollout", kind, heads=heads)
    assert np.allclose(found.values, over_image(flow[0, 1:] * 16), atol=1e-5)
    assert found.forwards == 1
    assert found.extra["layers"] == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_follows_the_gradient_of_the_attention(kind: str) -> None:
    x = torch.from_numpy(image(3 if kind == "vit" else 1, padding=0).array[None].copy()).requires_grad_(True)
    score, attentions = brute_force(kind, x)
    gradients = torch.autograd.grad(score, attentions)
    flow = torch.eye(17, dtype=torch.float64)
    for a, g in zip(attentions, gradients, strict=True):
        total = torch.zeros(17, 17, dtype=torch.float64)
        for head in range(2):
            total += (a[head] * g[head]).clamp_min(0).double() / 2
        flow = flow + total @ flow
    found = run("attention-relevance", kind)
    expected = over_image(flow[0, 1:].detach().numpy())
    assert np.allclose(found.values, expected, atol=1e-6 + 1e-4 * expected.max())
    assert expected.max() > 0
    assert (found.forwards, found.backwards) == (1, 1)


def test_what_the_class_token_can_not_see_has_no_share() -> None:
    """Attention that is planted: the class token looks at patch 5 alone, every patch at itself."""
    model = classifier("vit")
    for block in model.network.encoder.layers:
        with torch.no_grad():
            block.self_attention.in_proj_weight.zero_()
            block.self_attention.in_proj_bias.zero_()
    net = model.network
    width = net.hidden_dim
    with (
        torch.no_grad()
    ):  # the query of the class token and the key of patch 5 are each other's answer, in both heads
        net.encoder.pos_embedding.zero_()
        net.conv_proj.weight.zero_()
        net.conv_proj.bias.zero_()
        net.class_token.zero_()
        net.class_token[0, 0, 0] = 1.0
        net.encoder.pos_embedding[0, 6, 1] = 1.0
        first = net.encoder.layers[0]
        first.ln_1.weight.fill_(1.0)
        for head in (0, width // 2):
            first.self_attention.in_proj_weight[head, 0] = 10.0
            first.self_attention.in_proj_weight[width + head, 1] = 10.0
    found = registry.create("attention-rollout").explain(model, image(3, padding=0), "pneumonia", Run())
    centres = found.values[4::8, 4::8]
    assert np.unravel_index(centres.argmax(), (4, 4)) == (1, 1)


@pytest.mark.parametrize("name", ["attention-rollout", "attention-relevance"])
def test_other_networks_are_refused_with_the_layer(name: str) -> None:
    method = registry.create(name)
    with pytest.raises(
        UnsupportedModel, match=r"layer 'features\.1\.0\.attn': ShiftedWindowAttention.*windows"
    ):
        method.explain(classifier("swin"), image(3), "pneumonia", Run())
    with pytest.raises(UnsupportedModel, match=r"layer 'stages\.3': no self-attention"):
        method.explain(classifier("lite"), image(), "pneumonia", Run())


class Tokens(nn.Module):
    """One attention layer over a grid that is no grid of square patches."""

    def __init__(self, patch: tuple[int, int], masked: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, patch, patch)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 1)
        self.masked = masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x).flatten(2).transpose(1, 2)
        mask = torch.zeros(h.shape[1], h.shape[1]) if self.masked else None
        return self.head(self.attention(h, h, h, need_weights=False, attn_mask=mask)[0].mean(1))


def test_attention_that_is_not_understood_is_refused() -> None:
    method = registry.create("attention-rollout")
    with pytest.raises(UnsupportedModel, match=r"layer 'attention'.*tokens are no grid"):
        method.explain(ModuleClassifier(Tokens((8, 4)), (1, SIDE, SIDE)), image(), "pneumonia", Run())
    with pytest.raises(UnsupportedModel, match=r"layer 'attention'.*masked"):
        method.explain(ModuleClassifier(Tokens((8, 8), True), (1, SIDE, SIDE)), image(), "pneumonia", Run())
    fine = ModuleClassifier(
        Tokens((8, 8)), (1, SIDE, SIDE)
    )  # no class token: the mean over the tokens is read
    found = method.explain(fine, image(padding=0), "pneumonia", Run())
    assert found.values.mean() == pytest.approx(1.0, abs=0.05)  # shares of all tokens add up to one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["attention-rollout", "attention-relevance"])
def test_nothing_stays_behind_after_cancellation_or_failure(name: str, kind: str) -> None:
    model = classifier(kind)
    unsettle(model.network)
    item = image(3 if kind == "vit" else 1)
    before = model.scores(torch.from_numpy(item.array[None].copy()), "pneumonia")
    for looks in range(0, 60, 6):
        with left_as_found(model.network):
            registry.create(name).explain(model, item, "pneumonia", Run(cancel=StopAfter(looks)))
    last = [m for m in model.network.modules() if isinstance(m, nn.Linear)][-1]

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    forward, last.forward = last.forward, fail  # type: ignore[method-assign,assignment]
    try:
        with left_as_found(model.network), pytest.raises(RuntimeError, match="boom"):
            registry.create(name).explain(model, item, "pneumonia", Run())
    finally:
        last.forward = forward  # type: ignore[method-assign]
    assert torch.equal(model.scores(torch.from_numpy(item.array[None].copy()), "pneumonia"), before)


def test_tokens_are_told_from_patches() -> None:
    assert grid(197, (224, 224)) == (1, 14, 14)
    assert grid(196, (224, 224)) == (0, 14, 14)
    assert grid(33, (64, 128)) == (1, 4, 8)
    assert grid(18, (32, 32)) is None


@pytest.mark.parametrize("kind", list(networks.KINDS))
def test_what_is_said_beforehand_is_what_running_says(kind: str) -> None:
    """A window greys a method by `unsuited`: never one that runs, and with the sentence that running would end in."""
    model = classifier(kind)
    found = registry.unsuited(model)
    assert set(found) <= {"attention-rollout", "attention-relevance"}
    for name, why in found.items():
        with pytest.raises(UnsupportedModel) as error:
            registry.create(name).explain(
                model, image(networks.KINDS[kind].channels), model.info.classes[-1], Run()
            )
        assert str(error.value) == why
    assert bool(found) == (kind not in ("vit", "monai-vit"))
