"""Bugs planted in a test kernel, one alive at a time, and the run that counts how many the scenarios notice."""
