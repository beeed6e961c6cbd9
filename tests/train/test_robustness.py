"""Changes of images against closed forms."""

import numpy as np
import pytest

from xai_engine.train import robustness


def test_noise_has_the_named_deviation():
    grey = np.full((300, 300), 0.5, np.float32)
    assert (robustness.noise(grey, 0.03) - grey).std() == pytest.approx(0.03, rel=0.02)


def test_blur_spreads_a_point_by_the_named_deviation():
    grey = np.zeros((201, 201), np.float32)
    grey[100, 100] = 1
    spread = robustness.blur(grey, 4 / 201)
    offsets = np.arange(201) - 100.0
    assert np.sqrt((spread.sum(0) * offsets**2).sum()) == pytest.approx(4, rel=0.02)


def test_rotation_turns_counter_clockwise():
    grey = np.zeros((101, 101), np.float32)
    grey[50, 90] = 1
    turned = robustness.rotate(grey, 90)
    assert np.unravel_index(turned.argmax(), turned.shape) == (10, 50)


def test_compression_loses_more_at_lower_quality():
    grey = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    losses = [float(np.abs(robustness.jpeg(grey, q) - grey).mean()) for q in (95, 40, 15)]
    assert losses[0] < losses[1] < losses[2]
