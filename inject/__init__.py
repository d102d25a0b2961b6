"""Make tagged kernel functions fail on purpose, and judge whether the kernel copes."""

__version__ = "0.1.0"
