"""Codecs of payloads: a function from a value to bytes, and one from bytes to a value.

Nothing is pickled and nothing evaluated: decoding what a stranger has stored runs no code of the
stranger's. Payloads are kept in ``blob`` columns.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cqlproto_anyio.patterns._errors import CorruptPayload, InvalidInput

__all__ = ["BYTES", "JSON", "Codec", "msgspec_codec"]


@dataclass(frozen=True, slots=True)
class Codec:
    """Two functions that turn values into bytes and back, or raise an error."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def dump(self, name: str, value: object, *, most: int | None = None) -> bytes:
        """Return the bytes of a value.

        Raises:
            InvalidInput: the codec refuses the value, or there are more bytes than ``most``.
        """
        try:
            payload = self.encode(value)
        except Exception as exc:  # whatever a codec of the user's raises
            raise InvalidInput(name, f"a value that the codec can encode ({exc})", value) from exc
        if not isinstance(payload, bytes):
            raise InvalidInput("codec.encode", "a function that returns bytes", payload)
        if most is not None and len(payload) > most:
            raise InvalidInput(
                name, f"at most {most:,} bytes when encoded, it has {len(payload):,}", value
            )
        return payload

    def load(self, where: str, payload: bytes) -> Any:
        """Return the value of a stored payload.

        Raises:
            CorruptPayload: the codec can't decode it; ``where`` says what was read.
        """
        try:
            return self.decode(payload)
        except Exception as exc:
            raise CorruptPayload(where, exc) from exc


def _fields(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    raise TypeError(f"JSON has no {type(value).__name__}: pass codec=")


def _encode_json(value: object) -> bytes:
    text = json.dumps(
        value, default=_fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode()


def _identity(value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes are required, got a {type(value).__name__}")
    return bytes(value)


JSON = Codec(_encode_json, json.loads)
"""JSON: dict, list, str, int, float, bool, None. Tuples come back as lists, keys of dicts as text,
dataclasses as dicts."""

BYTES = Codec(_identity, _identity)
"""Bytes, as they are."""


def msgspec_codec(type: Any = Any, *, format: str = "json") -> Codec:
    """Return a codec of msgspec's, which is faster and decodes into a type.

    Arguments:
        type: the type to decode into: a Struct, a dataclass, ``dict[str, int]``, ..
        format: ``json`` or ``msgpack``.

    Raises:
        ImportError: msgspec isn't installed.
        InvalidInput: the format is another one.
    """
    import msgspec

    if format not in ("json", "msgpack"):
        raise InvalidInput("format", "'json' or 'msgpack'", format)
    module = msgspec.json if format == "json" else msgspec.msgpack
    return Codec(module.Encoder().encode, module.Decoder(type).decode)
