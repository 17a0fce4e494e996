"""``python -m bench.framing [--quick] [--rounds N]``: the tables of this part alone."""

from bench.codec.alone import main
from bench.framing import gates, markdown, measure

if __name__ == "__main__":
    raise SystemExit(main("bench.framing", "Frames and segments.", measure, markdown, gates))
