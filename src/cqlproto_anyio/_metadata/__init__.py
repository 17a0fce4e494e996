"""What is known of the cluster, as immutable values: hosts, replicas, tablets. No I/O, no clock."""
