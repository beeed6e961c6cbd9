"""Panels beside the image; each is a view of a model that knows no Qt."""
