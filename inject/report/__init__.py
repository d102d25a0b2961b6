"""Reports: table, JSON lines, JUnit, KTAP. Imports model."""
