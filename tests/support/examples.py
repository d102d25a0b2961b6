"""How hypothesis finds its examples; import it first. It is apart because its import takes seconds in a guest.

They have no deadline, and are the same in each run: a change fails by itself only. With
INJECT_SEARCH set they are new ones each time, which is how to look for more.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "inject",
    deadline=None,
    database=None,
    derandomize=not os.environ.get("INJECT_SEARCH"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("inject")
