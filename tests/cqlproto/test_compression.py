"""Compressed frame bodies (v4 section 5): vectors, round trips, hostile bytes."""

from __future__ import annotations

import hashlib
import json
import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.compression import Compressor, compressor
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_SIZE = 9
LIMIT = 1 << 20
NAMES = ["lz4", "snappy"]

names = pytest.mark.parametrize("name", NAMES)


def expand(hexadecimal: str | None, recipe: Sequence[dict[str, Any]] | None) -> bytes:
    """Return the bytes of a vector, given in full or, if long, as a recipe."""
    if hexadecimal is not None:
        return bytes.fromhex(hexadecimal)
    parts = []
    for part in recipe or ():
        if "hex" in part:
            parts.append(bytes.fromhex(part["hex"]))
        else:
            parts.append(bytes.fromhex(part["repeat"]) * part["times"])
    return b"".join(parts)


def load() -> list[dict[str, Any]]:
    path = Path(__file__).parents[1] / "vectors" / "compressed.jsonl"
    with path.open(encoding="utf-8") as lines:
        vectors = [json.loads(line) for line in lines]
    return [vector for vector in vectors if vector["kind"] == "frame"]


@pytest.mark.parametrize("vector", load(), ids=lambda vector: vector["name"])
def test_a_vector_is_decompressed(vector: dict[str, Any]) -> None:
    plain = expand(vector["hex_plain_frame"], vector["plain_gen"])
    assert hashlib.sha256(plain).hexdigest() == vector["plain_sha256"]
    codec = compressor(vector["compression"])
    body = bytes.fromhex(vector["hex_compressed_frame"])[HEADER_SIZE:]
    size = len(plain) - HEADER_SIZE
    assert codec.decompress(body, size) == plain[HEADER_SIZE:]
    with pytest.raises(RemoteProtocolError, match="must be at most"):
        codec.decompress(body, size - 1)
    if size < 5000:
        for end in range(len(body)):
            with pytest.raises(RemoteProtocolError):
                codec.decompress(body[:end], LIMIT)


@pytest.mark.parametrize(("name", "body"), [("lz4", "0000000000"), ("snappy", "00")])
def test_an_empty_body(name: str, body: str) -> None:
    """READY has one on v3 and v4."""
    codec = compressor(name)
    assert codec.compress(b"").hex() == body
    assert codec.decompress(bytes.fromhex(body), 0) == b""


@names
def test_the_name_is_that_of_the_startup_option(name: str) -> None:
    """v4 section 4.1.1"""
    assert compressor(name).name == name


compressible = st.builds(
    lambda unit, times: unit * times, st.binary(max_size=8), st.integers(0, 5000)
)


@given(st.sampled_from(NAMES).map(compressor), st.binary(max_size=300) | compressible)
def test_a_body_round_trips(codec: Compressor, body: bytes) -> None:
    assert codec.decompress(codec.compress(body), len(body)) == body


@given(st.sampled_from(NAMES).map(compressor), st.binary(max_size=300) | compressible)
def test_the_limit_is_kept(codec: Compressor, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decompress(codec.compress(body), len(body) - 1)


@given(st.sampled_from(NAMES).map(compressor), st.binary(max_size=60))
def test_garbage_is_a_protocol_error(codec: Compressor, body: bytes) -> None:
    try:
        plain = codec.decompress(body, LIMIT)
    except RemoteProtocolError:
        return
    assert len(plain) <= LIMIT


@given(
    st.sampled_from(NAMES).map(compressor),
    st.binary(max_size=100) | compressible,
    st.integers(0, 2**16),
    st.integers(0, 255),
)
def test_damage_is_a_protocol_error_or_keeps_the_limit(
    codec: Compressor, body: bytes, index: int, byte: int
) -> None:
    damaged = bytearray(codec.compress(body))
    damaged[index % len(damaged)] = byte
    try:
        plain = codec.decompress(bytes(damaged), LIMIT)
    except RemoteProtocolError:
        return
    assert len(plain) <= LIMIT


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("lz4", "0fffffff" + "00"),
        ("lz4", "0fffffff" + "1f610100ffffffff"),
        ("lz4", "ffffffff" + "00"),
        ("snappy", "ffffff7f" + "00"),
        ("snappy", "ffffffff0f" + "00"),
    ],
)
def test_a_small_body_does_not_stand_for_a_large_one(name: str, body: str) -> None:
    """It is refused by its announced length, before anything is allocated."""
    with pytest.raises(RemoteProtocolError, match="announces|must be at most"):
        compressor(name).decompress(bytes.fromhex(body), 1 << 28)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("lz4", "00000000"),  # no block
        ("lz4", "00000002" + "1061"),  # one byte, two announced
        ("lz4", "00000000" + "1061"),  # one byte, none announced
        ("lz4", "000000"),
        ("lz4", ""),
        ("snappy", ""),
        ("snappy", "02" + "0061"),
        ("snappy", "00" + "0061"),
        ("snappy", "8080808080"),
        ("snappy", "ffffffff7f"),
    ],
)
def test_a_length_that_does_not_fit_is_a_protocol_error(name: str, body: str) -> None:
    with pytest.raises(RemoteProtocolError):
        compressor(name).decompress(bytes.fromhex(body), LIMIT)


@names
def test_the_best_compression_is_accepted(name: str) -> None:
    """Zeros compress best, so the limit on the ratio could wrongly refuse them."""
    codec = compressor(name)
    for size in (1, 10, 100, 10_000, 1_000_000):
        assert codec.decompress(codec.compress(bytes(size)), size) == bytes(size)


@names
@given(body=st.binary(max_size=100) | compressible, more=st.sampled_from([-1, 1, 1000]))
def test_blocks_come_back_and_have_the_length_that_was_announced(
    name: str, body: bytes, more: int
) -> None:
    codec = compressor(name)
    block = codec.compress_block(body)
    for data in (block, memoryview(block)):
        assert codec.decompress_block(data, len(body)) == body
        if len(body) + more >= 0:
            with pytest.raises(RemoteProtocolError):
                codec.decompress_block(data, len(body) + more)


def test_an_unknown_compression_is_a_local_error() -> None:
    with pytest.raises(LocalProtocolError, match="zstd"):
        compressor("zstd")


@pytest.mark.parametrize(("name", "module"), [("lz4", "lz4.block"), ("snappy", "cramjam")])
def test_a_missing_codec_says_what_to_install(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LocalProtocolError, match=f"pip install {module.partition('.')[0]}$"):
        compressor(name)


@pytest.mark.parametrize(
    ("name", "size"), [("lz4", 0x7E000001), ("lz4", 1 << 31), ("snappy", 1 << 32)]
)
def test_what_is_too_long_for_the_format_is_a_local_error(name: str, size: int) -> None:
    """The memory is only mapped, not used."""
    with mmap.mmap(-1, size) as data, pytest.raises(LocalProtocolError, match="cannot compress"):
        compressor(name).compress(data)  # type: ignore[arg-type]  # as good as bytes here
