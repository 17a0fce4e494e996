"""From the rows of the system tables to hosts, and from contact points to the local datacenter.

What servers tell of their peers is not to be trusted: rows without an id, a rack or tokens occur
while nodes join, leave and change their address, addresses are 0.0.0.0, one id comes twice. Such a
row is left out and a note says why. If it has the id of a host that is known, what it lacks is
taken from what was known, so that no pool is closed because a row is half written; rows without an
id are mostly what is left of nodes that are gone.

What the node's row on itself lacks is unknown, if nothing better is to be had: proxies and stubs
have such rows, or none. The host is there all the same, for it answers. Its id is then made of its
endpoint, and a datacenter of which the name isn't known counts as the local one.

A host's endpoint is what its row says, after translation. Two things are known better: the node
that is asked is where it was found, and a host at the address of a contact point bears that
contact point's name, which is what its certificate is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from cqlproto.exceptions import RemoteProtocolError
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._checks.values import checked_endpoint
from cqlproto_anyio._metadata.topology import MURMUR3, Host, Topology
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cqlproto.wire import IPAddress

__all__ = [
    "Address",
    "Addresses",
    "Found",
    "HostReader",
    "check_local_dc",
    "infer_local_dc",
    "made_id",
    "plain_host",
    "read_keyspaces",
    "with_hosts",
    "with_keyspaces",
]

# Where a node listens, before translation: what its row and the events about it say.
Address = tuple[str, int]

_INTEGER_TOKENS = ("Murmur3Partitioner", "RandomPartitioner")
_LEFT_OUT = ": it is left out"


def made_id(endpoint: Endpoint) -> UUID:
    """Return the id of a host whose own isn't known."""
    return uuid5(NAMESPACE_URL, f"cql://{endpoint}")


def plain_host(endpoint: Endpoint) -> Host:
    """Return a host of which nothing is known but where it is."""
    return Host(made_id(endpoint), endpoint, "", "")


class Addresses:
    """Finds hosts by the addresses that events name.

    Arguments:
        endpoints: the hosts' endpoints by the addresses in their rows.
    """

    __slots__ = ("_by_address", "_by_ip")

    def __init__(self, endpoints: Mapping[Address, Endpoint]) -> None:
        self._by_address = endpoints
        self._by_ip: dict[str, Endpoint | None] = {}
        for (ip, _), endpoint in endpoints.items():
            self._by_ip[ip] = None if ip in self._by_ip else endpoint

    def find(self, ip: IPAddress, port: int) -> Endpoint | None:
        """Return the endpoint of the host that is told about, or None if it isn't known.

        A server may name another port than the rows do, its port for TLS for one; so where only
        one host has this IP address, that is the one.
        """
        text = str(ip)
        return self._by_address.get((text, port)) or self._by_ip.get(text)


@dataclass(frozen=True, slots=True)
class Found:
    """What a reading of the system tables gave.

    Attributes:
        hosts: the hosts, the one that was asked first; no two have the same id.
        partitioner: the Java class of the cluster's partitioner.
        addresses: to tell which host an event is about.
        notes: why which rows were left out or completed.
    """

    hosts: tuple[Host, ...]
    partitioner: str
    addresses: Addresses
    notes: tuple[str, ...] = ()


class HostReader:
    """Makes hosts of the rows of ``system.local`` and ``system.peers_v2`` or ``system.peers``.

    Rows of peers can be given page by page, so that a large cluster is read in small steps.

    Arguments:
        local: the only row of ``system.local``, by column.
        contact: where the node that was asked was found.
        translate: from where a peer says it listens to where it is reached; None for as it is.
        names: the names of contact points by the addresses they were resolved to, for TLS.
        known: the hosts as they were known before, to complete rows.
        lenient: whether the node's row on itself may lack anything.

    Attributes:
        complete: whether that row has the host's id, its datacenter and its rack.

    Raises:
        RemoteProtocolError: it hasn't, and ``lenient`` is False.
    """

    def __init__(
        self,
        local: Mapping[str, Any],
        *,
        contact: Endpoint,
        translate: Callable[[Endpoint], Endpoint] | None = None,
        names: Mapping[Address, str] | None = None,
        known: Mapping[UUID, Host] | None = None,
        lenient: bool = False,
    ) -> None:
        self.complete = True
        self._port = contact.port
        self._translate = translate
        self._names = names or {}
        self._known = known or {}
        self._partitioner = _text(local, "partitioner") or MURMUR3
        self._integers = self._partitioner.rpartition(".")[2] in _INTEGER_TOKENS
        self._hosts: dict[UUID, Host] = {}
        self._addresses: dict[Address, Endpoint] = {}
        self._notes: list[str] = []
        ip = _ip(local, "rpc_address", "broadcast_address", "listen_address")
        address = contact.address if ip is None else str(ip)
        at = address, _port(local, "rpc_port", contact.port)
        self._take(local, at, self._named(contact), f"system.local of {contact}", local=True)
        if self._hosts:
            return
        if not lenient:
            raise RemoteProtocolError(self._notes[0].removesuffix(_LEFT_OUT))
        self.complete = False
        self._notes = [each.replace(_LEFT_OUT, ": it is unknown") for each in self._notes if local]
        host = self._guessed(local, self._named(contact))
        self._hosts[host.host_id] = host
        self._addresses[at] = host.endpoint

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of peers.

        Arguments:
            rows: of either table. Those without a column ``native_address`` are taken for rows of
                ``system.peers``, which know no port: they have that of the contact point.
        """
        for row in rows:
            if "native_address" in row:
                ip = _ip(row, "native_address", "peer")
                port = _port(row, "native_port", self._port)
            else:
                ip, port = _ip(row, "rpc_address", "peer"), self._port
            if ip is None:
                self._notes.append(f"the peer {row.get('host_id')} has no address{_LEFT_OUT}")
                continue
            address = str(ip), port
            where = f"the peer {Endpoint(*address)}"
            endpoint = self._endpoint(address, where)
            if endpoint is not None:
                self._take(row, address, endpoint, where, local=False)

    def found(self) -> Found:
        """Return what the rows so far gave."""
        hosts, addresses = tuple(self._hosts.values()), Addresses(dict(self._addresses))
        return Found(hosts, self._partitioner, addresses, tuple(self._notes))

    def _guessed(self, row: Mapping[str, Any], endpoint: Endpoint) -> Host:
        """Return the node itself, as far as its row, or what was known before, tells of it."""
        was = [host for host in self._known.values() if host.endpoint == endpoint]
        known = was[0] if was else plain_host(endpoint)
        host_id = row.get("host_id")
        return Host(
            host_id if isinstance(host_id, UUID) else known.host_id,
            endpoint,
            _text(row, "data_center") or known.datacenter,
            _text(row, "rack") or known.rack,
            self._tokens(row) or known.tokens,
            _text(row, "release_version") or known.release_version,
        )

    def _named(self, endpoint: Endpoint) -> Endpoint:
        """Give an endpoint the name of the contact point that led there, if it has none."""
        name = self._names.get((endpoint.address, endpoint.port))
        if name is None or endpoint.server_name is not None:
            return endpoint
        return Endpoint(endpoint.address, endpoint.port, name)

    def _endpoint(self, address: Address, where: str) -> Endpoint | None:
        """Return where to connect to a peer; None if the user's translation says nothing."""
        endpoint = Endpoint(*address)
        if self._translate is not None:
            try:
                translated = self._translate(endpoint)
            except BaseException as exc:  # it is not awaited: this is no cancellation
                told = f"raised {described(exc)}"
                self._notes.append(f"{where} is left out: Config.translate {told}")
                return None
            if not isinstance(translated, Endpoint):
                told = f"returned a {type(translated).__name__}, not an Endpoint"
                self._notes.append(f"{where} is left out: Config.translate {told}")
                return None
            try:
                endpoint = checked_endpoint(translated)
            except ConfigError as exc:
                told = f"returned what can't be connected to: {exc}"
                self._notes.append(f"{where} is left out: Config.translate {told}")
                return None
        return self._named(endpoint)

    def _tokens(self, row: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Return a row's tokens in ascending order; None if it has none or they can't be read."""
        texts = row.get("tokens")
        if not isinstance(texts, (set, frozenset, list, tuple)):
            return () if "tokens" not in row else None
        if not self._integers:
            return ()
        try:
            return tuple(sorted(map(int, texts))) or None
        except (TypeError, ValueError):
            return None

    def _take(
        self,
        row: Mapping[str, Any],
        address: Address,
        endpoint: Endpoint,
        where: str,
        *,
        local: bool,
    ) -> None:
        """Make a host of a row, or a note."""
        host_id = row.get("host_id")
        if not isinstance(host_id, UUID):
            self._notes.append(f"{where} has no host_id{_LEFT_OUT}")
            return
        known = self._known.get(host_id)
        missing = []
        datacenter, rack = _text(row, "data_center"), _text(row, "rack")
        tokens = self._tokens(row)
        if not datacenter:
            missing.append("data_center")
            datacenter = "" if known is None else known.datacenter
        if not rack:
            missing.append("rack")
            rack = "" if known is None else known.rack
        if tokens is None:
            if not local:
                missing.append("tokens")
            # a node that only coordinates has none, and is there all the same if it answers
            tokens = () if known is None else known.tokens
        if missing:
            lacking = f"{where} has no {', '.join(missing)}"
            if known is None:
                self._notes.append(f"{lacking}{_LEFT_OUT}")
                return
            self._notes.append(f"{lacking}: what was known of it is used")
        if host_id in self._hosts:
            other = self._hosts[host_id].endpoint
            self._notes.append(f"{where} has the host_id of {other}{_LEFT_OUT}")
            return
        schema_version = row.get("schema_version")
        self._hosts[host_id] = Host(
            host_id,
            endpoint,
            datacenter,
            rack,
            tokens,
            _text(row, "release_version"),
            schema_version if isinstance(schema_version, UUID) else None,
        )
        self._addresses.setdefault(address, endpoint)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _ip(row: Mapping[str, Any], *names: str) -> IPAddress | None:
    """Return the first of the addresses that is one: 0.0.0.0 and :: mean that of the next."""
    for name in names:
        value = row.get(name)
        if isinstance(value, (IPv4Address, IPv6Address)) and not value.is_unspecified:
            return value
    return None


def _port(row: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = row.get(name)
    return value if isinstance(value, int) and 0 < value < 0x10000 else otherwise


def read_keyspaces(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the replication options of keyspaces by name, and notes on what can't be read.

    Arguments:
        rows: those of ``system_schema.keyspaces``: ``keyspace_name``, ``replication``.
    """
    keyspaces: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for row in rows:
        name, options = row.get("keyspace_name"), row.get("replication")
        if not isinstance(name, str) or not isinstance(options, dict):
            notes.append(f"the keyspace {name!r} has no replication options: it is left out")
        else:
            keyspaces[name] = {str(key): str(value) for key, value in options.items()}
    return keyspaces, notes


def with_hosts(topology: Topology, found: Found) -> Topology:
    """Return the topology with the hosts that were found; the same one if nothing has changed.

    Hosts that have not changed are the same objects. The schema version changes with each table,
    and is not worth a new topology.
    """
    known = topology.hosts
    hosts = []
    changed = len(found.hosts) != len(known) or found.partitioner != topology.partitioner
    for host in found.hosts:
        old = known.get(host.host_id)
        if old is not None and _same(old, host):
            hosts.append(old)
        else:
            hosts.append(host)
            changed = True
    return Topology(hosts, topology.keyspaces, found.partitioner) if changed else topology


def _same(one: Host, other: Host) -> bool:
    return (
        one.endpoint == other.endpoint
        and one.datacenter == other.datacenter
        and one.rack == other.rack
        and one.release_version == other.release_version
        and one.tokens == other.tokens
    )


def with_keyspaces(topology: Topology, keyspaces: Mapping[str, Mapping[str, str]]) -> Topology:
    """Return the topology with these keyspaces and no others; the same one if it has them."""
    before = topology.keyspaces
    changes: dict[str, Mapping[str, str] | None] = {
        name: options for name, options in keyspaces.items() if before.get(name) != options
    }
    changes.update((name, None) for name in before if name not in keyspaces)
    return topology.with_keyspaces(changes) if changes else topology


def infer_local_dc(topology: Topology, contacts: Sequence[Endpoint]) -> str | None:
    """Return the datacenter that the contact points are in; None if no host's is known.

    Arguments:
        topology: the cluster.
        contacts: the contact points, resolved. Those that no host listens at are ignored: load
            balancers, and nodes that are no more.

    Raises:
        ConfigError: they lie in several datacenters, or all of them are ignored and there are
            several; it says what to pass.
    """
    hosts = {(host.endpoint.address, host.endpoint.port): host for host in topology.hosts.values()}
    lying: dict[str, list[str]] = {}
    for contact in contacts:
        host = hosts.get((contact.address, contact.port))
        if host is not None and host.datacenter:
            name = contact.server_name
            shown = f"{contact}" if name is None else f"{name} ({contact})"
            lying.setdefault(host.datacenter, []).append(shown)
    if len(lying) == 1:
        return next(iter(lying))
    known = [name for name in topology.datacenters if name]
    if not lying and len(known) < 2:
        return known[0] if known else None
    choice = " or ".join(f"local_dc={name!r}" for name in sorted(lying) or known)
    if lying:
        where = "; ".join(f"{name!r}: {', '.join(lying[name])}" for name in sorted(lying))
        raise ConfigError(f"the contact points lie in several datacenters: pass {choice} ({where})")
    shown = ", ".join(str(contact) for contact in contacts)
    raise ConfigError(f"none of the contact points is a host's own ({shown}): pass {choice}")


def check_local_dc(topology: Topology, local_dc: str) -> None:
    """Raise ConfigError, naming the datacenters there are, if no host can be in this one."""
    if local_dc not in topology.datacenters and "" not in topology.datacenters:
        there = ", ".join(repr(name) for name in topology.datacenters)
        raise ConfigError(f"no host is in local_dc={local_dc!r}; the datacenters are: {there}")
