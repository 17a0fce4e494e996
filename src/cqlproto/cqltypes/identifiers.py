"""Cells of uuid, timeuuid and inet (v5 section 5)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import Any
from uuid import UUID

from cqlproto.cqltypes.constructors import ipv4_of, uuid_of
from cqlproto.cqltypes.conversion import Scalar, failed, refuse, wrong_size
from cqlproto.cqltypes.values import EMPTY
from cqlproto.exceptions import ValueConversionError

__all__ = ["INET", "TIMEUUID", "UUID_"]


def _uuid(cql_type: str, version: int | None) -> Scalar:
    def encode(value: Any) -> bytes:
        if isinstance(value, UUID):
            try:
                data = value.bytes
            except Exception as exc:
                raise failed(cql_type, value, exc) from exc
        elif isinstance(value, str):
            try:
                data = UUID(value).bytes
            except ValueError:
                reason = "must be a UUID in hexadecimal"
                raise ValueConversionError(reason, cql_type=cql_type, value=value) from None
        elif value is EMPTY:
            return b""
        else:
            refuse(cql_type, value, "a UUID or a str")
        # Not UUID.version: it is None for other variants, which the server accepts.
        if version is not None and data[6] >> 4 != version:
            reason = f"must be a UUID of version {version}, not {data[6] >> 4}"
            raise ValueConversionError(reason, cql_type=cql_type, value=value)
        return data

    def decode(data: bytes) -> Any:
        if len(data) != 16:
            return wrong_size(cql_type, data, "16")
        return uuid_of(data)

    return Scalar(encode, decode, 16)


def _encode_inet(value: Any) -> bytes:
    address = value
    if isinstance(value, str):
        try:
            address = ip_address(value)
        except ValueError:
            reason = "must be an IP address"
            raise ValueConversionError(reason, cql_type="inet", value=value) from None
    if isinstance(address, IPv4Interface | IPv6Interface):
        reason = "the network of an interface cannot be stored: take its .ip"
        raise ValueConversionError(reason, cql_type="inet", value=value)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        reason = "an address with a zone cannot be stored"
        raise ValueConversionError(reason, cql_type="inet", value=value)
    if isinstance(address, IPv4Address | IPv6Address):
        try:
            return address.packed
        except Exception as exc:
            raise failed("inet", value, exc) from exc
    if value is EMPTY:
        return b""
    refuse("inet", value, "an IPv4Address, an IPv6Address or a str")


def _decode_inet(data: bytes) -> Any:
    if len(data) == 4:
        return ipv4_of(data)
    if len(data) == 16:
        return IPv6Address(data)
    return wrong_size("inet", data, "4 or 16")


INET = Scalar(_encode_inet, _decode_inet)
TIMEUUID = _uuid("timeuuid", 1)
UUID_ = _uuid("uuid", None)
