"""Meaningful perturbation on planted networks, and one step of it against autograd end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.explain.networks import classifier, image
from xai_engine.classifier.types import ModelInput
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.runtime.run import Run

PARAMS = {"replacement": "black", "cells": 16, "jitter": 1, "iterations": 120}


class Spot(nn.Module):
    """The mean brightness of one square, through a nonlinearity."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3.0 * torch.tanh(x[:, :, self.rows, self.columns].mean((1, 2, 3)))[:, None]


def planted() -> tuple[ModuleClassifier, ModelInput, np.ndarray]:
    plane = 1.0 + 0.2 * np.random.default_rng(4).standard_normal((1, 64, 64)).astype(np.float32)
    plane[0, 0, 0] = 0.0  # black
    model = ModuleClassifier(Spot(slice(16, 32), slice(36, 56)), (1, 64, 64))
    truth = np.zeros((64, 64), bool)
    truth[16:32, 36:56] = True
    return model, input_of(plane.astype(np.float32)), truth


def test_the_spot_that_decides_is_hidden() -> None:
    model, item, truth = planted()
    found = registry.create("meaningful-perturbation", **PARAMS).explain(model, item, "pneumonia", Run())
    assert found.values[truth].mean() > 0.8
    assert found.values[~truth].mean() < 0.1
    assert found.extra["share_of_change"] > 0.8
    assert found.converged
    x = torch.from_numpy(item.array[None].copy())
    hidden = x + torch.from_numpy(found.values.copy()) * (x.min() - x)
    assert found.extra["score_with_mask"] == pytest.approx(
        float(model.scores(hidden, "pneumonia")[0]), abs=1e-4
    )


def test_the_spot_that_decides_is_kept() -> None:
    model, item, truth = planted()
    method = registry.create("meaningful-perturbation", aim="keep", area=float(truth.mean()), **PARAMS)
    found = method.explain(model, item, "pneumonia", Run())
    assert found.values[truth].mean() > 0.8
    assert found.values.mean() == pytest.approx(truth.mean(), rel=0.35)
    assert found.extra["share_of_change"] > 0.7


def test_weights_do_what_they_say() -> None:
    model, item, _ = planted()
    areas = [
        registry.create("meaningful-perturbation", **(PARAMS | {"area_weight": w}))
        .explain(model, item, "pneumonia", Run())
        .values.mean()
        for w in (0.1, 1.0, 30.0)
    ]
    assert areas[0] > areas[1] > areas[2]
    assert areas[2] < 0.01


def test_is_the_same_optimisation_as_torchs_own_adam() -> None:
    """Written anew with a module, torch.optim.Adam and one graph through the whole network."""
    model, item = classifier("functional-relu"), image()
    params = {
        "replacement": "black",
        "cells": 8,
        "iterations": 15,
        "jitter": 0,
        "area_weight": 0.7,
        "smoothness": 0.3,
    }
    found = registry.create("meaningful-perturbation", **params).explain(model, item, "pneumonia", Run())
    x = torch.from_numpy(item.array[None].copy())
    valid = torch.from_numpy(item.valid.copy())
    black = torch.where(valid, x[..., valid].min(), x)
    inside = F.avg_pool2d(valid.float()[None, None], 4)
    scores = model.scores(torch.cat([x, black]), "pneumonia")
    whole = max(abs(float(scores[0] - scores[1])), 0.05)
    m = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([m], lr=0.1)
    for _ in range(15):
        adam.zero_grad()
        up = F.interpolate(m, (32, 32), mode="bilinear", align_corners=False)
        mixed = (x.double() * (1 - up) + black.double() * up).float()
        rough = (m[:, :, 1:] - m[:, :, :-1]).abs().mean() + (m[..., 1:] - m[..., :-1]).abs().mean()
        score = model.differentiable_scores(mixed, "pneumonia").sum().double()
        loss = score.clamp_min(float(scores[0]) - whole) / whole
        (loss + 0.7 * (m * inside).sum() / inside.sum() + 0.3 * rough).backward()
        adam.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    expected = F.interpolate(m.detach(), (32, 32), mode="bilinear", align_corners=False)[0, 0].numpy()
    assert np.allclose(found.values[item.valid], expected[item.valid], atol=2e-3)


def test_a_score_that_does_not_change_is_said_so() -> None:
    model, _, _ = planted()
    flat = input_of(np.ones((1, 64, 64), np.float32))
    found = registry.create("meaningful-perturbation", **PARAMS).explain(model, flat, "pneumonia", Run())
    assert not found.converged
    assert "explains nothing" in found.notes[0]


def test_a_mask_that_moves_the_score_the_wrong_way_is_not_told_in_percent() -> None:
    from xai_engine.explain.compute.mask import shortfall

    assert shortfall(True, 0.25) == (
        "Hiding the marked area brings about only 25 % of the change in score that hiding everything does."
    )
    for hide in (True, False):
        assert "the other way" in shortfall(hide, -1.34)
        assert "%" not in shortfall(hide, -1.34)
