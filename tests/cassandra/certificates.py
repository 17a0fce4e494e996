"""Creates the certificates of a test cluster: an authority, a server key, a client key.

Uses ``openssl`` and ``keytool``, which come with a JDK's packages. The extensions are explicit
because Python verifies with strict X.509 rules since 3.13: an authority needs a key usage, a leaf
certificate an authority key identifier.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STORE_PASSWORD = "cassandra"  # of keys that live for one test run

_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = cqlproto-test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
subjectAltName = {addresses}, DNS:localhost
extendedKeyUsage = serverAuth
{leaf}
[client]
extendedKeyUsage = clientAuth
{leaf}
"""
_LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid"""


def make(folder: Path, addresses: Sequence[str]) -> None:
    """Write ca.pem, server.p12, trust.p12, client.pem and client.key into a folder.

    Raises:
        subprocess.CalledProcessError: A tool failed; its output is in the error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ", ".join(f"IP:{address}" for address in addresses)
    (folder / "openssl.cnf").write_text(_CONFIG.format(addresses=names, leaf=_LEAF))
    config = ("-config", "openssl.cnf")
    new = ("-newkey", "rsa:2048", "-nodes")
    authority = (
        "-x509",
        "-days",
        "3650",
        "-extensions",
        "authority",
        "-subj",
        "/CN=cqlproto-test-ca",
    )
    _run(folder, "openssl", "req", *config, *new, *authority, "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        request = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        _run(folder, "openssl", "req", *config, *new, *request)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650")
        extensions = ("-extfile", "openssl.cnf", "-extensions", name)
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem")
        _run(folder, "openssl", "x509", "-req", *files, *signed, *extensions)
    pair = ("-in", "server.pem", "-inkey", "server.key", "-certfile", "ca.pem", "-name", "server")
    secret = ("-passout", f"pass:{STORE_PASSWORD}")
    _run(folder, "openssl", "pkcs12", "-export", *pair, *secret, "-out", "server.p12")
    store = ("-keystore", "trust.p12", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD)
    _run(folder, "keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", *store)


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
