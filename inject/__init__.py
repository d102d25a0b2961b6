"""Make error-injectable kernel functions fail on purpose, and check whether the kernel copes."""

__version__ = "0.1.0"
