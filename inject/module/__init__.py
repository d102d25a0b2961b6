"""The kernel module that lets any probed function be failed. Imports errors, store, model and kernel."""
