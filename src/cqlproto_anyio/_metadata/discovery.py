"""From rows of the system tables to hosts, and from contact points to the local datacenter.

What a server says of its peers can't be trusted. While nodes join, leave and change their address
there are rows without an id, a rack or tokens, addresses of 0.0.0.0, and ids that occur twice. Such
a row is left out and a note says why. If the row has the id of a known host, the missing columns
are taken from what was known, so that no pool is closed because a row is half written. Rows without
an id mostly remain from nodes that are gone.

Proxies and stubs have incomplete rows on themselves, or none. Their hosts are kept, since they
answer: missing columns count as unknown, a missing id is generated from the endpoint, and a
datacenter without a name counts as the local one.

A host's endpoint is the address in its row, after translation, with two exceptions. The node that
is asked keeps the endpoint where it was reached. A host at the address of a contact point gets the
contact point's name, since its certificate is checked against that name.
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
    "generated_id",
    "host_at",
    "read_keyspaces",
    "with_hosts",
    "with_keyspaces",
]

# The address in a node's row and in events about it, before translation.
Address = tuple[str, int]

_INTEGER_TOKENS = ("Murmur3Partitioner", "RandomPartitioner")
_LEFT_OUT = ": it is left out"


def generated_id(endpoint: Endpoint) -> UUID:
    """Return an id for a host whose own id is unknown; the same for the same endpoint."""
    return uuid5(NAMESPACE_URL, f"cql://{endpoint}")


def host_at(endpoint: Endpoint) -> Host:
    """Return a host of which only the endpoint is known."""
    return Host(generated_id(endpoint), endpoint, "", "")


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
        """Return the endpoint of the host at this address, or None if there is none.

        An event may name another port than the host's row, for example its port for TLS. So if only
        one host has the IP address, the port is ignored.
        """
        text = str(ip)
        return self._by_address.get((text, port)) or self._by_ip.get(text)


@dataclass(frozen=True, slots=True)
class Found:
    """The hosts that one reading of the system tables has found.

    Attributes:
        hosts: the hosts, first the node that was asked; no two have the same id.
        partitioner: the Java class of the cluster's partitioner.
        addresses: finds the host that an event is about.
        notes: which rows were left out or completed, and why.
    """

    hosts: tuple[Host, ...]
    partitioner: str
    addresses: Addresses
    notes: tuple[str, ...] = ()


class HostReader:
    """Makes hosts of the rows of ``system.local`` and ``system.peers_v2`` or ``system.peers``.

    Rows of peers are added page by page, so that a large cluster is read in small steps.

    Arguments:
        local: the only row of ``system.local``, by column; empty if it could not be read.
        contact: the endpoint where the node was reached.
        translate: ``Config.translate``, from a peer's address to its endpoint; None to leave it.
        names: the contact points' names by the addresses that they resolve to, for TLS.
        known: the hosts as they were known before, to complete rows.
        lenient: whether ``local`` may lack any column.

    Attributes:
        complete: whether ``local`` has the host's id, datacenter and rack.

    Raises:
        RemoteProtocolError: ``local`` lacks one of these, and ``lenient`` is False.
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
        host = self._incomplete(local, self._named(contact))
        self._hosts[host.host_id] = host
        self._addresses[at] = host.endpoint

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of peers.

        Arguments:
            rows: rows of either table. Those without a column ``native_address`` are rows of
                ``system.peers``, which have no port: the contact point's port is used.
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
        """Return the hosts of the rows so far."""
        hosts, addresses = tuple(self._hosts.values()), Addresses(dict(self._addresses))
        return Found(hosts, self._partitioner, addresses, tuple(self._notes))

    def _incomplete(self, row: Mapping[str, Any], endpoint: Endpoint) -> Host:
        """Return the node itself, from what its row has and from what was known before."""
        was = [host for host in self._known.values() if host.endpoint == endpoint]
        known = was[0] if was else host_at(endpoint)
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
        """Return the endpoint with its contact point's name, unless it has a name."""
        name = self._names.get((endpoint.address, endpoint.port))
        if name is None or endpoint.server_name is not None:
            return endpoint
        return Endpoint(endpoint.address, endpoint.port, name)

    def _endpoint(self, address: Address, where: str) -> Endpoint | None:
        """Return the endpoint of a peer; None, with a note, if ``translate`` fails."""
        endpoint = Endpoint(*address)
        if self._translate is not None:
            try:
                translated = self._translate(endpoint)
            except BaseException as exc:  # no cancellation: nothing was awaited
                self._leave_out(where, f"raised {described(exc)}")
                return None
            if not isinstance(translated, Endpoint):
                self._leave_out(where, f"returned a {type(translated).__name__}, not an Endpoint")
                return None
            try:
                endpoint = checked_endpoint(translated)
            except ConfigError as exc:
                self._leave_out(where, f"returned what can't be connected to: {exc}")
                return None
        return self._named(endpoint)

    def _leave_out(self, where: str, failure: str) -> None:
        self._notes.append(f"{where} is left out: Config.translate {failure}")

    def _tokens(self, row: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Return a row's tokens in ascending order; None if there are none or they aren't valid."""
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
        """Add the host of a row, or a note why it is left out."""
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
            # a node that only coordinates has no tokens
            tokens = () if known is None else known.tokens
        if missing:
            lacking = f"{where} has no {', '.join(missing)}"
            if known is None:
                self._notes.append(f"{lacking}{_LEFT_OUT}")
                return
            self._notes.append(f"{lacking}: the values known before are used")
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
    """Return the first of these columns that has an address other than 0.0.0.0 and ::."""
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
        rows: rows of ``system_schema.keyspaces``, with ``keyspace_name`` and ``replication``.
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
    """Return the topology with the hosts that were found; the same object if nothing has changed.

    Hosts that have not changed are the same objects. A new schema version is no change: it comes
    with each table that is created.
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
    """Return the topology with exactly these keyspaces; the same object if it has them already."""
    before = topology.keyspaces
    changes: dict[str, Mapping[str, str] | None] = {
        name: options for name, options in keyspaces.items() if before.get(name) != options
    }
    changes.update((name, None) for name in before if name not in keyspaces)
    return topology.with_keyspaces(changes) if changes else topology


def infer_local_dc(topology: Topology, contacts: Sequence[Endpoint]) -> str | None:
    """Return the datacenter of the contact points; None if no host's datacenter is known.

    Arguments:
        topology: the cluster.
        contacts: the contact points, resolved. Those that are no host's endpoint are ignored: load
            balancers, and nodes that are gone.

    Raises:
        ConfigError: the contact points are in several datacenters, or all of them are ignored and
            there are several; the message says what to pass.
    """
    hosts = {(host.endpoint.address, host.endpoint.port): host for host in topology.hosts.values()}
    found: dict[str, list[str]] = {}
    for contact in contacts:
        host = hosts.get((contact.address, contact.port))
        if host is not None and host.datacenter:
            name = contact.server_name
            shown = f"{contact}" if name is None else f"{name} ({contact})"
            found.setdefault(host.datacenter, []).append(shown)
    if len(found) == 1:
        return next(iter(found))
    known = [name for name in topology.datacenters if name]
    if not found and len(known) < 2:
        return known[0] if known else None
    choice = " or ".join(f"local_dc={name!r}" for name in sorted(found) or known)
    if found:
        where = "; ".join(f"{name!r}: {', '.join(found[name])}" for name in sorted(found))
        raise ConfigError(f"the contact points are in several datacenters: pass {choice} ({where})")
    shown = ", ".join(str(contact) for contact in contacts)
    raise ConfigError(f"no contact point is a host's address ({shown}): pass {choice}")


def check_local_dc(topology: Topology, local_dc: str) -> None:
    """Raise ConfigError if no host can be in this datacenter."""
    if local_dc not in topology.datacenters and "" not in topology.datacenters:
        there = ", ".join(repr(name) for name in topology.datacenters)
        raise ConfigError(f"no host is in local_dc={local_dc!r}; the datacenters are: {there}")
