"""Reports of a sweep, made from its journals: HTML, lcov, JUnit, KTAP, JSON lines. May import sweep and below."""
