"""Where a node listens: the address, the port, and the name in its certificate."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens.

    Attributes:
        address: an IP address or a DNS name.
        port: the TCP port.
        server_name: the name that the node's certificate must bear, if it isn't the address.
    """

    address: str
    port: int = 9042
    server_name: str | None = None

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}"
