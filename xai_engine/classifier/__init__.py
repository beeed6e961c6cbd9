"""Model bundles, preprocessing, prediction, calibration. Types import without torch."""
