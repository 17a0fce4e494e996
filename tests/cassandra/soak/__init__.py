"""Faults on a real cluster of three nodes while programs use it, and what became of their requests.

The nodes are killed, hung, restarted one after another, altered and put behind proxies that cut,
spoil, delay and refuse (faults.py). Meanwhile two processes, one on asyncio and one on trio, write
and read (member.py, load.py), so that each is seen for itself: its descriptors, its memory, its
tasks. What was written is known by key (ledger.py), and is read again after each fault. The parent
(crew.py) does the faults, tells the processes what comes, and collects their figures (terms.py).

``python -m tests.cassandra.soak`` goes through all of it until its time is over, and prints a
table; tests/cassandra/test_cluster_faults.py is the short form.
"""
