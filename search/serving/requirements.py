"""What serving needs beyond a plain installation."""

from __future__ import annotations

from importlib.util import find_spec

from compressors.errors import UserError

__all__ = ["require_serve"]


def require_serve() -> None:
    """Nothing where Ray Serve can be imported.

    Raises:
        UserError: it is not installed; says what to install.
    """
    if any(find_spec(module) is None for module in ("ray", "starlette", "uvicorn", "prometheus_client")):
        raise UserError('compareto serve needs Ray Serve, which is not installed: pip install "compareto[serve]"')
