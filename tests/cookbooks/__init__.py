"""Programs that make the calls of the rsylla and Kailash guides, each with ``main()``."""
