"""The address, the port and the TLS name of a node."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a node.

    Attributes:
        address: an IP address or a DNS name.
        port: the TCP port.
        server_name: the name expected in the node's certificate; None for the address.
    """

    address: str
    port: int = 9042
    server_name: str | None = None

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}"
