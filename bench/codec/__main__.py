"""``python -m bench.codec [--quick] [--rounds N]``: the tables of this part alone."""

from bench.codec import gates, markdown, measure
from bench.codec.alone import main

if __name__ == "__main__":
    raise SystemExit(main("bench.codec", "Decode and encode.", measure, markdown, gates))
