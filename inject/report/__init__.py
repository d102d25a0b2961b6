"""What a reader gets: table, JSON lines, JUnit, KTAP. Imports model."""
