"""First scenarios for `inject new`. Imports kernel and model."""
