"""Runtimes, one file each."""

from compressors.targets.target import Kernel, Session, Target

__all__ = ["Kernel", "Session", "Target"]
