"""Examples are the same in each run."""

import examples  # noqa: F401
