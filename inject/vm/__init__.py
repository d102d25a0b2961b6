"""QEMU guests, one kind of host. Imports fleet."""
