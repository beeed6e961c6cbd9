"""The mathematics of the methods, on torch tensors within a Session."""
