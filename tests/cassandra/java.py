"""Provides Java and Cassandra's jars, which Maven fetches once.

The jars are kept in ``~/.cache/cassandra-jars/<version>``; ``CASSANDRA_JARS`` names another place
than ``~/.cache/cassandra-jars``. ``CASSANDRA_VERSION`` names the release that the tests run on.
lines.py says which Java a release wants. A JDK 17 is the machine's own. A JDK 11, for the lines
before 5.0, is the machine's too, or the one that ``JAVA11_HOME`` names, or is fetched once into
``~/.cache/cassandra-jdk11`` (tools/fetch-jdk11.sh).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cassandra.lines import artifacts, java_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CASSANDRA_VERSION = os.environ.get("CASSANDRA_VERSION", "5.0.5")
CACHE = Path(os.environ.get("CASSANDRA_JARS") or Path.home() / ".cache" / "cassandra-jars")
JDK11 = Path(os.environ.get("JAVA11_HOME") or Path.home() / ".cache" / "cassandra-jdk11")

_FETCH_JDK11 = Path(__file__).parents[2] / "tools" / "fetch-jdk11.sh"
_PROPERTIES = [
    "-Djdk.attach.allowAttachSelf=true",
    "-Dcassandra-foreground=yes",
    # A test cluster needn't wait for gossip from nodes that were not started.
    "-Dcassandra.ring_delay_ms=1000",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dlogback.configurationFile=logback.xml",
]
_DEPENDENCY = """<dependency><groupId>org.apache.cassandra</groupId>
<artifactId>{artifact}</artifactId><version>{version}</version></dependency>"""
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>cassandra</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies></project>
"""


class LauncherError(Exception):
    """A node can't be started or did not start; the text has the remedy or the node's output."""


def missing(release: str = CASSANDRA_VERSION) -> str | None:
    """Return what a release lacks on this machine and where to get it, or None."""
    wanted = java_version(release)
    can_fetch = wanted == 11 and shutil.which("apt-get") is not None
    if _java(wanted) is None and not can_fetch:
        return _no_java(wanted)
    if not _complete(CACHE / release) and shutil.which("mvn") is None:
        return "no mvn to fetch Cassandra's jars with: install Maven (Debian: apt install maven)"
    return None


def fetch(release: str = CASSANDRA_VERSION) -> None:
    """Fetch the JDK 11 and the jars that a release needs, unless this machine has them.

    Raises:
        LauncherError: the JDK or the jars can't be fetched.
    """
    needed_java(java_version(release))
    jars(release)


@functools.cache
def _major(java: str) -> int | None:
    """Return the major version of a ``java``; None if it prints no version."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r'version "(\d+)', shown.stderr)
    return None if found is None else int(found[1])


def _own_java() -> tuple[str, str | None]:
    """Return where this machine's ``java`` is looked for, and its path or None."""
    if home := os.environ.get("JAVA_HOME"):
        return f"JAVA_HOME={home}", shutil.which("java", path=str(Path(home) / "bin"))
    return "java on PATH", shutil.which("java")


def _java(wanted: int) -> str | None:
    """Return the ``java`` of this major version, or None."""
    _, own = _own_java()
    candidates = [own, *([str(JDK11 / "bin" / "java")] if wanted == 11 else [])]
    return next((each for each in candidates if each and _major(each) == wanted), None)


def _no_java(wanted: int) -> str:
    """Return that there is no Java of this major version, which one there is, and what to do."""
    place, own = _own_java()
    if own is None:
        found = "no java on PATH" if place == "java on PATH" else f"{place} has no bin/java"
    else:
        major = _major(own)
        found = f"{place} " + ("prints no version" if major is None else f"is Java {major}")
    package = f"openjdk-{wanted}-jdk-headless"
    home = "JAVA_HOME" if wanted == 17 else "JAVA11_HOME"
    remedy = f"install it and Maven (Debian: apt install {package} maven), and set {home} to it"
    return f"no JDK {wanted} ({found}): {remedy}"


def needed_java(wanted: int) -> str:
    """Return the ``java`` of this major version; a JDK 11 is fetched if there is none.

    Raises:
        LauncherError: there is none, and none can be fetched.
    """
    java = _java(wanted)
    if java is None and wanted == 11:
        JDK11.parent.mkdir(parents=True, exist_ok=True)
        with _alone(JDK11.with_suffix(".lock")):
            done = subprocess.run(
                ["sh", _FETCH_JDK11, JDK11],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise LauncherError(f"no JDK 11 was fetched:\n{(done.stdout + done.stderr)[-2000:]}")
        _major.cache_clear()
        java = _java(wanted)
    if java is None:
        raise LauncherError(_no_java(wanted))
    return java


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that excludes other processes that fetch the same files."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _complete(library: Path) -> bool:
    return (library / ".complete").exists()


def jars(release: str = CASSANDRA_VERSION) -> Path:
    """Return the folder of a release's jars; Maven fetches them the first time.

    A lock excludes concurrent downloads, and an interrupted download leaves no incomplete folder,
    because the folder is renamed when it is complete.

    Raises:
        LauncherError: something is missing, or Maven failed.
    """
    library = CACHE / release
    if _complete(library):
        return library
    if reason := missing(release):
        raise LauncherError(reason)
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(CACHE / f".{release}.lock"):
        if not _complete(library):
            _fetch(library)
    return library


def _fetch(library: Path) -> None:
    release = library.name
    for part in CACHE.glob(f".{release}-*"):
        shutil.rmtree(part)  # left by an interrupted download; the lock is held
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{release}-") as name:
        part = Path(name) / release
        part.mkdir()
        dependencies = "".join(
            _DEPENDENCY.format(artifact=artifact, version=release)
            for artifact in artifacts(release)
        )
        (part / "pom.xml").write_text(_POM.format(dependencies=dependencies))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={part}"],
            cwd=part, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise LauncherError(f"Maven did not fetch Cassandra {release}:\n{said}")
        (part / ".complete").touch()
        shutil.rmtree(library, ignore_errors=True)
        part.rename(library)


def _machine(release: str) -> list[str]:
    """Return the ``java`` of a release, with the options that open Java's modules to Cassandra."""
    wanted = java_version(release)
    return [needed_java(wanted), f"@{Path(__file__).with_name(f'java{wanted}.options')}"]


def command(
    release: str,
    conf: Path,
    data: Path,
    heap: str,
    jmx_port: int | None,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the command line of a node that reads its settings from `conf`.

    Args:
        release: Cassandra's version.
        conf: Folder of cassandra.yaml; it stands first in the class path.
        data: Folder of what no setting names a place for.
        heap: As Java writes it.
        jmx_port: On the loopback address; None for no JMX.
        more: Further properties of the Java machine.

    Raises:
        LauncherError: Something is missing.
    """
    properties = [
        *_PROPERTIES,
        # Where the lines before 4.0 look for it by a URL.
        f"-Dcassandra.config=file://{conf}/cassandra.yaml",
        f"-Dcassandra.storagedir={data}",
        *more,
    ]
    if java_version(release) >= 17:
        properties.append("-Djava.security.manager=allow")
    if jmx_port is not None:
        properties.append(f"-Dcassandra.jmx.local.port={jmx_port}")
    machine = [*_machine(release), f"-Xmx{heap}", f"-Xms{heap}", "-Xss512k", "-XX:+UseSerialGC"]
    classes = ["-cp", f"{conf}:{jars(release)}/*", "org.apache.cassandra.service.CassandraDaemon"]
    return [*machine, *properties, *classes]


def nodetool_command(
    release: str, conf: Path, jmx_port: int, arguments: Sequence[str]
) -> list[str]:
    """Return the command line of Cassandra's nodetool, which talks to a node over JMX."""
    quick = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    home = f"-Duser.home={conf.parent}"  # where it keeps a history of commands
    classes = ["-cp", f"{conf}:{jars(release)}/*", "org.apache.cassandra.tools.NodeTool"]
    address = ["-h", "127.0.0.1", "-p", str(jmx_port)]
    return [*_machine(release), *quick, home, *classes, *address, *arguments]
