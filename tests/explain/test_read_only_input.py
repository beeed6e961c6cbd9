"""Prepared inputs are read-only, as every computed value is: methods must take them so."""

from __future__ import annotations

import numpy as np
import pytest

from xai_engine.explain.compute.superpixels import segment


@pytest.mark.parametrize("kind", ["slic", "watershed", "felzenszwalb", "quickshift"])
def test_superpixels_of_read_only_arrays(kind: str) -> None:
    grey = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    valid = np.ones((48, 48), bool)
    valid[:, :5] = False
    free = segment(grey.copy(), valid.copy(), kind, 12, 0.1, 0)
    grey.setflags(write=False)
    valid.setflags(write=False)
    np.testing.assert_array_equal(segment(grey, valid, kind, 12, 0.1, 0), free)
