"""Which trials run, and in what order. Imports trial."""
