"""Declarations of the methods: parameters, units and texts. No module here loads torch."""
