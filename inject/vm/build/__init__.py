"""Kernels and guest images, built into the cache. Imports errors only."""
