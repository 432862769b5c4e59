"""Devices: profiles, the strings that name them, and the cost model. Importing this is light; models are built on demand."""

from evaluators.devices.names import device_keys, device_names, resolve_device
from evaluators.devices.registry import device_named

__all__ = ["device_keys", "device_named", "device_names", "resolve_device"]
