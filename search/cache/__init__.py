"""The content-addressed cache of stages.

On a disk, local or mounted (``folder``), or in an object store behind a folder of this machine (``remote``). Each entry has a manifest with the SHA-256 of
every file, so that a corrupt one is found, removed and computed again (``entry``). A folder has a limit (``size_limit``).
"""

from search.cache.cache import DEFAULT_LIMIT, Cache, Store

__all__ = ["DEFAULT_LIMIT", "Cache", "Store"]
