"""Soak test: injects faults into a real cluster of three nodes under load, and checks all requests.

Nodes are killed, paused and restarted one after another; the schema is altered; proxies cut,
corrupt, delay and refuse traffic (faults.py). Meanwhile two processes, one on asyncio and one on
trio, write and read (member.py, load.py); separate processes allow counting the descriptors, memory
and tasks of each. A ledger has the key of every write (ledger.py), and the rows are read again
after each fault. The parent (crew.py) injects the faults, sends commands to the processes, and
collects their figures (terms.py).

``python -m tests.cassandra.soak`` repeats all faults for a given time, and prints a table.
tests/cassandra/test_cluster_faults.py is the short form.
"""
