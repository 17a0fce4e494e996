"""Benchmarks of this client and of the other Python clients.

`python -m bench` (or `make bench`) runs all parts: among them **live** (rates on a real Cassandra),
**canned** (client CPU per operation on a server that only replays), **stream** (a million rows) and
**import** (time); `bench.parts` lists them. Each client runs in a process of its own
(`bench.worker`). The clients take turns in rotating order, so that disturbances of the machine
affect all of them. Absolute figures belong to one machine: read the ratios.
"""
