"""Compares two build/bench.json: ``compare.py A B``. Between machines, only ratios say something."""

from __future__ import annotations

import sys
from pathlib import Path

from results import read

FIELDS = ("us_cpu_per_record", "ratio", "rss_mb")


def main() -> int:
    """Print what both have, side by side."""
    if len(sys.argv) != 3:
        print("usage: make bench-compare A=before.json B=after.json", file=sys.stderr)
        return 2
    before, after = ({(one.name, one.contender): one for one in read(Path(file))} for file in sys.argv[1:])
    print(f"{'':26s} {'':16s} {'':18s} {'A':>10s} {'B':>10s} {'B / A':>7s}")
    for (name, contender), one in before.items():
        other = after.get((name, contender))
        for field in FIELDS:
            a, b = getattr(one, field), getattr(other, field, None)
            if a and b:
                print(f"{name:26s} {contender:16s} {field:18s} {a:10.2f} {b:10.2f} {b / a:7.2f}")
        for field, a in one.details.items():
            b = other.details.get(field) if other else None
            if isinstance(a, int | float) and isinstance(b, int | float) and a:
                print(f"{name:26s} {contender:16s} {field:18s} {a:10.2f} {b:10.2f} {b / a:7.2f}")
    for name, contender in before.keys() ^ after.keys():
        print(f"{name} {contender}: only in {'A' if (name, contender) in before else 'B'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
