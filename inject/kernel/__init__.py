"""What one kernel is and can, read from /proc, /sys and BTF; never written. Imports model."""
