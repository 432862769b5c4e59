"""How artifacts are served."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from compressors.errors import UserError

__all__ = ["ServingSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Limits and sizes.

    Attributes:
        host, port: where HTTP is listened to.
        replicas: processes of each artifact.
        threads: of each replica, within an operator; 0 shares the machine's cores among the replicas of one artifact.
        provider: of ONNX Runtime.
        max_batch: inputs that a replica runs at once.
        max_wait_ms: that an input waits for others; 0 runs what is there.
        rate: requests a second that are accepted; None is any number.
        burst: requests that may come at once beyond it.
        max_waiting: requests that are worked on or wait; more are refused.
        max_body_bytes: of a request.
        max_inputs: of a request.
        timeout_s: until a request is given up: that its body takes, and then its answer.

    Raises:
        UserError: a value out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    threads: int = 0
    provider: str = "cpu"
    max_batch: int = 16
    max_wait_ms: float = 2.0
    rate: float | None = None
    burst: int = 32
    max_waiting: int = 128
    max_body_bytes: int = 8 << 20
    max_inputs: int = 256
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("replicas", 1), ("threads", 0), ("max_batch", 1), ("max_wait_ms", 0), ("burst", 1), ("max_waiting", 1), ("max_inputs", 1)):
            self._at_least(name, least)
        self._at_least("max_body_bytes", 1)
        if not 0 < self.port < 65536:
            raise UserError(f"--port: got {self.port}; accepted: 1 to 65535")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise UserError(f"--rate: got {self.rate:g}; accepted: requests a second, above 0")
        if not 0 < self.timeout_s < float("inf"):
            raise UserError(f"--timeout: got {self.timeout_s:g}; accepted: seconds, above 0")

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not least <= value < float("inf"):
            flag = name.removesuffix("_bytes").replace("_", "-")
            raise UserError(f"--{flag}: got {value:g}; accepted: {least} or more")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
