"""How a call fails: rules to bytes, one armed BPF program, injections back. Imports kernel and model."""
