"""Real Apache Cassandra nodes on loopback addresses.

Neither Docker nor an installed Cassandra is needed (java.py says what is). Node *n* listens on
127.0.0.*n*; ports are free ones unless given, so that a cluster with TLS can run beside one
without. A node counts as up when it answers STARTUP, and the login where there is one. Nodes are
started one after another, since two that bootstrap at once refuse each other; or all at once,
without bootstrapping (`Options.together`).

A cluster in a ``with`` statement ends with the statement, and also when the process is killed
(guard.py). Tests use it through the fixtures in fixtures.py; a shell uses
``python -m tests.cassandra`` (__main__.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.cassandra import certificates, guard, java, lines
from tests.cassandra.blocking import BlockingConnection, ErrorReply
from tests.cassandra.java import LauncherError
from tests.cassandra.ports import free_port, in_use

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

START_SECONDS = 120.0
USERNAME, PASSWORD = "cassandra", "cassandra"  # the role of a new cluster

_LOGBACK = """<configuration>
<appender name="S" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%-5level %d %logger{20} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="S"/></root></configuration>
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a cluster; a port of 0 means a free port.

    Attributes:
        nodes: How many, 1 to 3.
        port: CQL, the same on every node.
        storage_port: Between nodes, the same on every node.
        jmx_port: Of the first node, the others count on from it; None for no JMX, and so no
            `Node.nodetool`.
        auth: Ask for a password and check permissions; the first role is cassandra/cassandra.
        tls: CQL in TLS only: "server" shows a certificate, "mutual" asks for the client's as well.
        settings: Further settings of cassandra.yaml, in place of those set here.
        each: The same for single nodes, in their order, in place of `settings`.
        first: How many nodes start with the cluster; the others by their `up`. None for all.
        together: Start those at once. They do not bootstrap, so there must be no data yet.
        heap: Of each node, as Java writes it.
        optimize: Let Java optimize what runs often, for measurements. Without it a node starts on
            two thirds of the processor time, and serves a test as fast.
        tokens: Per node.
        dc: Name of the data centre; racks are r1, r2, r3.
        dcs: Names of single nodes' data centres, in their order, in place of `dc`.
        release: Cassandra's version; lines.py has those that were tried.
    """

    nodes: int = 1
    port: int = 0
    storage_port: int = 0
    jmx_port: int | None = None
    auth: bool = False
    tls: Literal["server", "mutual"] | None = None
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    each: Sequence[Mapping[str, object]] = ()
    first: int | None = None
    together: bool = False
    heap: str = "768m"
    optimize: bool = False
    tokens: int = 16
    dc: str = "dc1"
    dcs: Sequence[str] = ()
    release: str = java.CASSANDRA_VERSION

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.{number}" for number in range(1, self.nodes + 1)]


@dataclasses.dataclass(frozen=True)
class Node:
    """One node: its address, its credentials and its control.

    Attributes:
        host: Its address.
        port: Its CQL port.
        username: For a server with passwords, else None.
        password: The same.
        ca_path: PEM of the authority that signed its certificate; None for a server without TLS.
        cert_path: PEM of a client certificate, for a server with TLS.
        key_path: PEM of its key.
        cluster: What it can be killed and paused through; None if it was not started from here.
        number: Its place in the cluster, from 1.
        version: The protocol version that the launcher speaks with it.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None
    cluster: Cluster | None = dataclasses.field(default=None, repr=False, compare=False)
    number: int = 1
    version: int = 4

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return a context that trusts the node, with the client certificate; None without TLS."""
        if self.ca_path is None:
            return None
        context = ssl.create_default_context(cafile=self.ca_path)
        if self.cert_path is not None:
            context.load_cert_chain(self.cert_path, self.key_path)
        return context

    def connect(self, timeout: float = 30.0) -> BlockingConnection:
        """Open a blocking connection, logged in; `timeout` is of one read, in seconds."""
        login = None if self.username is None else (self.username, self.password or "")
        tls = self.tls_context()
        return BlockingConnection(
            self.host, self.port, tls=tls, login=login, timeout=timeout, version=self.version
        )

    def cql(self, *statements: str) -> None:
        """Run statements one after another."""
        with self.connect() as connection:
            for statement in statements:
                connection.query(statement)

    def up(self, *properties: str) -> None:
        """Start the node with its existing data, and wait until it serves CQL.

        Args:
            properties: Of the Java machine, such as "-Dcassandra.join_ring=false".
        """
        self._cluster._start(self, properties)

    def nodetool(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of nodetool; the cluster needs a `jmx_port`."""
        return self._cluster._nodetool(self, arguments)

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        self._cluster._end(self, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the node with SIGTERM, and wait; resume it first if it is paused."""
        self.resume()
        self._cluster._end(self, signal.SIGTERM)

    def pause(self) -> None:
        """Pause the node with SIGSTOP. Its sockets stay open, and the system accepts new ones."""
        pid = self._cluster._pid(self)
        os.kill(pid, signal.SIGSTOP)
        # on a busy machine some of its threads go on for a moment
        deadline = time.monotonic() + 10
        while not all(state == "T" for state in _thread_states(pid)):
            if time.monotonic() > deadline:
                raise LauncherError(f"{self.address} does not stop")
            time.sleep(0.001)

    def resume(self) -> None:
        """Resume a paused node with SIGCONT."""
        os.kill(self._cluster._pid(self), signal.SIGCONT)

    @property
    def _cluster(self) -> Cluster:
        if self.cluster is None:
            raise LauncherError(f"{self.address} was not started from here")
        return self.cluster


class Cluster:
    """Nodes in a folder. As a context manager it starts them and leaves nothing behind.

    Args:
        options: How it is made.
        folder: Where data, logs and certificates go; by default a temporary folder. An earlier
            cluster in it is removed.

    Raises:
        LauncherError: (on entering) a node did not start; the folder or the port is in use.
    """

    def __init__(self, options: Options | None = None, folder: Path | None = None) -> None:
        options = options or Options()
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="cqlproto-cassandra-"))).resolve()
        self.options = dataclasses.replace(
            options,
            port=options.port or free_port(options.addresses),
            storage_port=options.storage_port or free_port(options.addresses),
            jmx_port=options.jmx_port
            if options.jmx_port != 0
            else free_port(["127.0.0.1"], options.nodes),
        )
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[str] | None = None
        keys, mutual = self.folder / "tls", options.tls == "mutual"
        self.nodes = [
            Node(
                address,
                self.options.port,
                username=USERNAME if options.auth else None,
                password=PASSWORD if options.auth else None,
                ca_path=keys / "ca.pem" if options.tls else None,
                cert_path=keys / "client.pem" if mutual else None,
                key_path=keys / "client.key" if mutual else None,
                cluster=self,
                number=number,
                version=min(lines.highest_version(options.release), 4),
            )
            for number, address in enumerate(options.addresses, 1)
        ]

    @classmethod
    def open(cls, folder: Path) -> Cluster:
        """Return the cluster that `start` left running in a folder."""
        try:
            options = json.loads((folder / "options.json").read_text())
        except FileNotFoundError as error:
            raise LauncherError(f"no cluster in {folder}") from error
        return cls(Options(**options), folder)

    @property
    def hosts(self) -> str:
        """The nodes as CQLPROTO_HOSTS wants them."""
        return ",".join(node.address for node in self.nodes)

    def __enter__(self) -> Self:
        self._guard = subprocess.Popen(
            [sys.executable, guard.__file__, self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._guard is not None:
            self._guard.communicate()  # closes its input: it kills what runs and removes the folder
            self._guard = None
        for process in self._processes.values():
            process.wait()

    def start(self) -> None:
        """Start all nodes anew; without `with`, they run until `stop`."""
        self._check_place()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "options.json").write_text(json.dumps(dataclasses.asdict(self.options)))
        if self.options.tls:
            certificates.make(self.folder / "tls", self.options.addresses)
        for node in self.nodes:
            self._configure(node)
        first, together = self.nodes[: self.options.first], self.options.together
        for group in [first] if together else [[node] for node in first]:
            for each in (self._launch, self._wait_for):
                for node in group:
                    each(node)

    def _check_place(self) -> None:
        """Check that starting deletes nothing of others, and that the nodes can listen."""
        found = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if found and "options.json" not in found:
            raise LauncherError(f"{self.folder} has other files: name a new folder")
        if any(self._runs(node) for node in self.nodes):
            raise LauncherError(f"a cluster runs in {self.folder}: stop it first")
        for node in self.nodes:
            if in_use(node.host, node.port):
                raise LauncherError(f"{node.address} is in use: pass another port")

    def stop(self) -> None:
        """End all nodes that run, in order."""
        for node in self.nodes:
            with contextlib.suppress(LauncherError):
                node.stop()

    def log(self, node: Node) -> str:
        """Return what a node has logged."""
        return (self._home(node) / "log").read_text(errors="replace")

    def _home(self, node: Node) -> Path:
        return self.folder / f"node{node.number}"

    def _configure(self, node: Node) -> None:
        conf = self._home(node) / "conf"
        conf.mkdir(parents=True)
        (conf / "logback.xml").write_text(_LOGBACK)
        dc = dict(enumerate(self.options.dcs, 1)).get(node.number, self.options.dc)
        rack = f"dc={dc}\nrack=r{node.number}\n"
        (conf / "cassandra-rackdc.properties").write_text(rack)
        # JSON is YAML, and quotes by itself.
        (conf / "cassandra.yaml").write_text(json.dumps(self._settings(node), indent=2))

    def _settings(self, node: Node) -> dict[str, object]:
        options = self.options
        data = self._home(node) / "data"
        keys = self.folder / "tls"
        seeds = options.addresses[0]
        if lines.line_of(options.release) >= (4, 0):
            seeds = f"{seeds}:{options.storage_port}"
        encryption = {
            "enabled": True,
            "optional": False,
            "keystore": str(keys / "server.p12"),
            "keystore_password": certificates.STORE_PASSWORD,
            "store_type": "PKCS12",
            "truststore": str(keys / "trust.p12"),
            "truststore_password": certificates.STORE_PASSWORD,
            "require_client_auth": options.tls == "mutual",
        }
        return {
            "cluster_name": "cqlproto",
            "num_tokens": options.tokens,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "data_file_directories": [str(data / "data")],
            "commitlog_directory": str(data / "commitlog"),
            "saved_caches_directory": str(data / "caches"),
            "commitlog_sync": "periodic",
            "auto_snapshot": False,  # together, what makes a suite full of DDL bearable
            "endpoint_snitch": "GossipingPropertyFileSnitch",
            "listen_address": node.host,
            "rpc_address": node.host,
            "native_transport_port": options.port,
            "storage_port": options.storage_port,
            "authenticator": "PasswordAuthenticator" if options.auth else "AllowAllAuthenticator",
            "authorizer": "CassandraAuthorizer" if options.auth else "AllowAllAuthorizer",
            "seed_provider": [
                {
                    "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                    "parameters": [{"seeds": seeds}],
                }
            ],
            **({"client_encryption_options": encryption} if options.tls else {}),
            **({"auto_bootstrap": False} if self._is_together(node) else {}),
            **lines.settings(
                options.release, data, port=options.port, storage_port=options.storage_port
            ),
            **options.settings,
            **dict(options.each[node.number - 1] if node.number <= len(options.each) else {}),
        }

    def _jmx_port(self, node: Node) -> int | None:
        first = self.options.jmx_port
        return None if first is None else first + node.number - 1

    def _is_together(self, node: Node) -> bool:
        return self.options.together and node.number <= (self.options.first or self.options.nodes)

    def _command(self, node: Node, properties: Sequence[str]) -> list[str]:
        home = self._home(node)
        if self._is_together(node):  # so long it waits for the first, which starts when it does
            properties = ["-Dcassandra.ring_delay_ms=30000", *properties]
        return java.command(
            self.options.release,
            home / "conf",
            home / "data",
            self.options.heap,
            self._jmx_port(node),
            properties if self.options.optimize else ["-XX:TieredStopAtLevel=1", *properties],
        )

    def _nodetool(self, node: Node, arguments: Sequence[str]) -> subprocess.Popen[str]:
        jmx_port = self._jmx_port(node)
        if jmx_port is None:
            raise LauncherError("nodetool needs a cluster with a jmx_port")
        return subprocess.Popen(
            java.nodetool_command(
                self.options.release, self._home(node) / "conf", jmx_port, arguments
            ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _start(self, node: Node, properties: Sequence[str] = ()) -> None:
        self._launch(node, properties)
        self._wait_for(node)

    def _launch(self, node: Node, properties: Sequence[str] = ()) -> None:
        home = self._home(node)
        with open(home / "log", "ab") as log:
            process = subprocess.Popen(
                self._command(node, properties),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes[node.number] = process
        self._tell_guard("+", process.pid)
        (home / "pid").write_text(str(process.pid))

    def _wait_for(self, node: Node) -> None:
        """Wait until a node that was launched serves CQL."""
        process = self._processes[node.number]
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                node.connect(timeout=5.0).close()
            except (OSError, ErrorReply) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    text = f"node {node.number} did not start ({error}):\n{self.log(node)[-3000:]}"
                    self._end(node, signal.SIGKILL)
                    raise LauncherError(text) from error
                time.sleep(0.1)
            else:
                return

    def _pid(self, node: Node) -> int:
        """Return the process of a node that runs; raises LauncherError if it does not."""
        process = self._processes.get(node.number)
        if process is not None:
            if process.poll() is None:
                return process.pid
        else:
            with contextlib.suppress(FileNotFoundError):
                pid = int((self._home(node) / "pid").read_text())
                if _is_node(pid, self._home(node)):
                    return pid
        raise LauncherError(f"node {node.number} does not run")

    def _runs(self, node: Node) -> bool:
        with contextlib.suppress(LauncherError):
            return self._pid(node) > 0
        return False

    def _end(self, node: Node, number: signal.Signals) -> None:
        try:
            pid = self._pid(node)
        except LauncherError:
            return
        os.kill(pid, number)
        process = self._processes.get(node.number)
        if process is not None:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        else:
            while _is_node(pid, self._home(node)):
                time.sleep(0.1)
        self._tell_guard("-", pid)

    def _tell_guard(self, sign: str, pid: int) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{sign}{pid}\n")
            self._guard.stdin.flush()


def _is_node(pid: int, home: Path) -> bool:
    """Whether a process id from a file still belongs to the node; the system reuses ids."""
    shown = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return not shown.startswith("Z") and f"{home / 'conf'}:" in shown


def _thread_states(pid: int) -> list[str]:
    """Return the letter of each thread's state; Linux writes it after the name in `stat`."""
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        except OSError:
            continue
    return states


def cql(address: str, *statements: str) -> None:
    """Run statements, one after another, on the server without passwords at ``host:port``."""
    host, _, port = address.rpartition(":")
    Node(host, int(port)).cql(*statements)
