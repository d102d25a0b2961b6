"""Descriptions of the filesystems that inject supports. May import errors and model."""

from __future__ import annotations

from collections.abc import Mapping

from inject.filesystems import bcachefs, btrfs, ext4, f2fs, xfs
from inject.filesystems.base import FilesystemType
from inject.filesystems.device_paths import device_paths

_ALL = (bcachefs.TYPE, ext4.TYPE, xfs.TYPE, btrfs.TYPE, f2fs.TYPE)
"""Every filesystem type. A new one is a file in this directory, and its line here."""

TYPES: Mapping[str, FilesystemType] = {kind.name: kind for kind in _ALL}
"""By name, in the order in which messages list them."""

DEVICE_PATHS: Mapping[str, str] = device_paths(_ALL)
"""C spelling of a parameter's type to the members that lead to a device number."""
