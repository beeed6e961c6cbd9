"""Measures speed, memory and agreement, each figure beside its peer in the same run."""
