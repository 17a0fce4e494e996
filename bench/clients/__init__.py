"""One module a client: `run(job) -> Outcome`, imported only in the worker that measures it."""
