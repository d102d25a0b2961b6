"""Tests of the kernel that counts its lines: `make coverage`."""
