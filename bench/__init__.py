"""How fast is this client, and what does it cost? Measured beside its peers, never alone.

`python -m bench` (or `make bench`) runs four parts: **live** (throughput against a real Cassandra),
**canned** (client CPU an operation against a server that costs nothing), **stream** (memory over a
million rows) and **import** (time). Every measurement is a process of its own (`bench.worker`), and
the clients take turns in rotating order, so that what the machine does meanwhile meets all of them.
Absolute numbers belong to one machine; the ratios are what to read.
"""
