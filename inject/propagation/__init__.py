"""The path of an injected error to user space. Imports filesystems, kernel and model."""
