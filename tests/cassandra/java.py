"""What Cassandra needs of the machine: Java of one version, and the jars, fetched with Maven once.

The jars are kept in ``~/.cache/cassandra-jars/<version>``; ``CASSANDRA_JARS`` names another place
than ``~/.cache/cassandra-jars``, ``CASSANDRA_VERSION`` another version.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CASSANDRA_VERSION = os.environ.get("CASSANDRA_VERSION", "5.0.5")
JAVA_VERSION = 17
CACHE = Path(os.environ.get("CASSANDRA_JARS") or Path.home() / ".cache" / "cassandra-jars")

_OPTIONS = Path(__file__).with_name("java17.options")
_PROPERTIES = [
    "-Djdk.attach.allowAttachSelf=true",
    "-Djava.security.manager=allow",
    "-Dcassandra-foreground=yes",
    # A test cluster need not wait for gossip from nodes that nobody started.
    "-Dcassandra.ring_delay_ms=1000",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dlogback.configurationFile=logback.xml",
]
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>cassandra</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.cassandra</groupId>
<artifactId>cassandra-all</artifactId><version>{version}</version></dependency></dependencies></project>
"""


class LauncherError(Exception):
    """A node cannot be started, or did not start: the text says what to do, or what it said."""


def missing() -> str | None:
    """Say why no Cassandra can be started on this machine; None if it can."""
    java = _java()
    if java is None:
        return f"no java: install a JDK {JAVA_VERSION} and Maven {_packages('maven')}"
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', shown)
    if found is None or int(found[1]) != JAVA_VERSION:
        first = shown.partition("\n")[0]
        wanted = f"install a JDK {JAVA_VERSION} {_packages()}, and let JAVA_HOME name it"
        return f"Cassandra needs Java {JAVA_VERSION}, not {first}: {wanted}"
    if not _complete(CACHE / CASSANDRA_VERSION) and shutil.which("mvn") is None:
        return "no mvn to fetch Cassandra's jars with: install Maven (Debian: apt install maven)"
    return None


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")


def _packages(*more: str) -> str:
    return f"(Debian: apt install {' '.join([f'openjdk-{JAVA_VERSION}-jdk-headless', *more])})"


def _complete(library: Path) -> bool:
    return (library / ".complete").exists()


def jars() -> Path:
    """Return the folder of Cassandra's jars; Maven fetches them the first time.

    Safe against others who do the same at the same time (a lock) and against an interruption (the
    folder appears under its name when it is complete).

    Raises:
        LauncherError: Maven failed.
    """
    library = CACHE / CASSANDRA_VERSION
    if _complete(library):
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{CASSANDRA_VERSION}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete(library):
            _fetch(library)
    return library


def _fetch(library: Path) -> None:
    for part in CACHE.glob(f".{library.name}-*"):
        shutil.rmtree(part)  # an interrupted download: whoever has the lock is alone
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{library.name}-") as name:
        part = Path(name) / library.name
        part.mkdir()
        (part / "pom.xml").write_text(_POM.format(version=CASSANDRA_VERSION))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={part}"],
            cwd=part, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise LauncherError(f"Maven did not fetch Cassandra {CASSANDRA_VERSION}:\n{said}")
        (part / ".complete").touch()
        shutil.rmtree(library, ignore_errors=True)
        part.rename(library)


def command(
    conf: Path, data: Path, heap: str, jmx_port: int | None, more: Sequence[str] = ()
) -> list[str]:
    """Return the command line of a node that reads its settings from `conf`.

    Args:
        conf: Folder of cassandra.yaml; it stands first in the class path.
        data: Folder of what no setting names a place for.
        heap: As Java writes it.
        jmx_port: On the loopback address; None for no JMX.
        more: Further properties of the Java machine.

    Raises:
        LauncherError: Something is missing.
    """
    properties = [*_PROPERTIES, f"-Dcassandra.storagedir={data}", *more]
    if jmx_port is not None:
        properties.append(f"-Dcassandra.jmx.local.port={jmx_port}")
    machine = [_needed_java(), f"@{_OPTIONS}", f"-Xmx{heap}", f"-Xms{heap}", "-XX:+UseSerialGC"]
    classes = ["-cp", f"{conf}:{jars()}/*", "org.apache.cassandra.service.CassandraDaemon"]
    return [*machine, *properties, *classes]


def nodetool_command(conf: Path, jmx_port: int, arguments: Sequence[str]) -> list[str]:
    """Return the command line of Cassandra's nodetool, which talks to a node over JMX."""
    quick = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    home = f"-Duser.home={conf.parent}"  # where it keeps a history of commands
    classes = ["-cp", f"{conf}:{jars()}/*", "org.apache.cassandra.tools.NodeTool"]
    address = ["-h", "127.0.0.1", "-p", str(jmx_port)]
    return [_needed_java(), f"@{_OPTIONS}", *quick, home, *classes, *address, *arguments]


def _needed_java() -> str:
    java = _java()
    if java is None:
        raise LauncherError(missing() or "no java")
    return java
