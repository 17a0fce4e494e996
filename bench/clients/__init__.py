"""One module per client, with `run(job) -> Outcome`; only the client's worker imports it."""
