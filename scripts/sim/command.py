"""scripts/sim_fleet: one release to thousands of simulated boxes, each way that there is to spare the registry."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from sim.fleet import Fleet, Result, Scenario

EXAMPLES = """examples:
  # 10,000 boxes, 2 GB, a registry on 10 Gbit/s
  scripts/sim_fleet
  # 100,000 boxes, in waves and behind the caches of their sites
  scripts/sim_fleet --boxes 100000 --only all,waves+cache
  # what a release on one day costs a line of 1 Gbit/s
  scripts/sim_fleet --egress-mbit 1000 --waves 5:0,25:6,100:12 --json

Each line is one simulation. together: every box polls at the same moment, as after a power cut. all: each at its own place
in the interval, as our boxes do. Then with waves (PERCENT:HOURS after the release), with one pull-through cache for each
site, with a delta update, and with all of it. requests/s are those of the whole time from the release to the last box, and of
the busiest second. What decides is the appliance's own planner; the network is a model: the registry's line is shared
evenly among downloads, none is faster than a box's link, nothing is lost, and a cache passes polls on but fetches blobs
once. The same seed gives the same figures.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/sim_fleet",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--boxes", type=int, default=10_000, metavar="N", help="(default: 10000)")
    made.add_argument("--mb", type=float, default=2000, metavar="N", help="of the model, 10^6 bytes (default: 2000)")
    made.add_argument("--egress-mbit", type=float, default=10_000, metavar="N", help="of the registry (default: 10000)")
    made.add_argument("--link-mbit", type=float, default=50, metavar="N", help="of each box or site (default: 50)")
    made.add_argument("--lan-mbit", type=float, default=1000, metavar="N", help="within a site (default: 1000)")
    made.add_argument("--poll-seconds", type=float, default=3600, metavar="N", help="(default: 3600)")
    made.add_argument("--waves", default="1:0,5:4,25:8,100:12", metavar="P:H,…", help="(default: 1:0,5:4,25:8,100:12)")
    made.add_argument("--site", type=int, default=20, metavar="N", help="boxes behind one cache (default: 20)")
    made.add_argument("--delta", type=float, default=5, metavar="N", help="percent that a delta moves (default: 5)")
    made.add_argument("--only", default="", metavar="NAME,…", help="some of the simulations")
    made.add_argument("--seed", type=int, default=1, metavar="N", help="of the boxes' identities (default: 1)")
    made.add_argument("--json", action="store_true", help="figures for programs, on standard output")
    return made


def scenarios(args: argparse.Namespace) -> list[Scenario]:
    """Raises ValueError for what cannot be simulated."""
    for name in ("boxes", "mb", "egress_mbit", "link_mbit", "lan_mbit", "poll_seconds", "site", "delta"):
        if not 0 < getattr(args, name) < 1e12:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0")
    if args.boxes > 1_000_000 or args.poll_seconds < 1 or args.delta > 100:
        raise ValueError("at most 1,000,000 boxes, a poll a second and 100 percent can be simulated")
    waves = _waves(args.waves)
    base = Scenario(
        "all",
        args.boxes,
        args.mb * 1e6,
        args.egress_mbit * 125_000,
        args.link_mbit * 125_000,
        args.poll_seconds,
        lan=args.lan_mbit * 125_000,
        seed=args.seed,
    )
    delta = args.delta / 100
    made = [
        dataclasses.replace(base, name="together", jitter=False),
        base,
        dataclasses.replace(base, name="waves", waves=waves),
        dataclasses.replace(base, name="cache", site=args.site),
        dataclasses.replace(base, name="delta", delta=delta),
        dataclasses.replace(base, name="waves+cache", waves=waves, site=args.site),
        dataclasses.replace(base, name="waves+cache+delta", waves=waves, site=args.site, delta=delta),
    ]
    names = [name for name in args.only.split(",") if name]
    unknown = sorted(set(names) - {scenario.name for scenario in made})
    if unknown:
        raise ValueError(f"--only {unknown[0]}: there are {', '.join(scenario.name for scenario in made)}")
    return [scenario for scenario in made if not names or scenario.name in names]


def _waves(text: str) -> tuple[tuple[float, float], ...]:
    try:
        found = tuple(
            (float(percent), float(hours)) for percent, _, hours in (w.partition(":") for w in text.split(","))
        )
    except ValueError:
        raise ValueError(f"--waves {text}: must be PERCENT:HOURS,…") from None
    if not all(0 < percent <= 100 and 0 <= hours <= 8760 for percent, hours in found) or found[-1][0] != 100:
        raise ValueError(f"--waves {text}: from above 0 to 100 percent, within a year, and 100 at the end")
    hours = [opens for _, opens in found]
    if list(found) != sorted(found) or hours != sorted(hours):
        raise ValueError(f"--waves {text}: each wave is larger and later than the one before")
    return found


def table(results: Sequence[Result]) -> str:
    """For people."""
    lines = [f"{'':18} {'requests/s':>11} {'peak':>7} {'from registry':>14} {'50 %':>8} {'95 %':>8} {'100 %':>8}"]
    for found in results:
        moved = f"{found.server_bytes / 1e9:,.1f} GB"
        times = " ".join(f"{_span(s):>8}" for s in (found.s50, found.s95, found.s100))
        lines.append(f"{found.name:18} {found.requests_mean:11,.1f} {found.requests_peak:7,} {moved:>14} {times}")
    return "\n".join(lines)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def main(argv: list[str]) -> int:
    """The exit status: 2 when nothing could be simulated."""
    args = parser().parse_args(argv)
    try:
        results = [Fleet(scenario).run() for scenario in scenarios(args)]
    except ValueError as error:
        print(f"scripts/sim_fleet: {error}", file=sys.stderr)
        return 2
    print(json.dumps([dataclasses.asdict(found) for found in results]) if args.json else table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
