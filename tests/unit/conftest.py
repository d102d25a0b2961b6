"""Examples are the same in each run."""

import tests.support.examples  # noqa: F401
