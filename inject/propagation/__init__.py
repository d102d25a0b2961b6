"""Where an injected error went on its way up to user space. Imports filesystems, kernel and model."""
