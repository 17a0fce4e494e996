"""The cluster as immutable values: hosts, replicas and tablets. No I/O, no clock."""
