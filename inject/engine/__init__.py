"""How a call fails: rules to bytes, one BPF program, events back. Imports model, filesystems, kernel and store."""
