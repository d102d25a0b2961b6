"""Properties and features of one kernel, read from /proc, /sys and BTF; never written. Imports model."""
