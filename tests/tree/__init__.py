"""Tests of a kernel that you built: `make tree-test TREE=DIR`."""
