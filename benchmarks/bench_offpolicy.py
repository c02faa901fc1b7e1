"""Do the intervals of off-policy estimates hold the truth, when answers were explored?

A simulated world, whose truth is known: users look at places by a fixed law, and click by utility. A policy with errors
serves ten places. `--share` of its answers are explored as the endpoint does it (`rank.explore_share`), from place four
on, with `--pool` candidates behind the answer. Users come at random, each with some requests, and they click. Other
policies keep the first three places and order the tail in their own way. What their lists would be worth is estimated
from the clicks, many times over.

| policy | its tail |
| --- | --- |
| other | the candidates by another ranker's scores, with errors of its own |
| true order | the candidates by their true utilities |
| neighbours | the serving policy's own tail, in which neighbours change places: 2 1 4 3 … |
| reversed | the serving policy's own tail, the last item first: few rare draws look like it |
| elsewhere | items that the serving policy has not among its candidates: there is no overlap |

For each: the truth; the mean of the estimates; in how many runs the 95% interval holds the truth; its mean width; and
in how many runs the estimator refused.

    python -m benchmarks.bench_offpolicy
    python -m benchmarks.bench_offpolicy --share 0.1 --lists 20000
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.forms import Options
from references.policies import holds, measured, truths, world


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, runs=60, lists=30_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--lists", type=int, default=40_000, help="served lists in a run")
    parser.add_argument("--share", type=float, default=0.05, help="of the answers that are explored")
    parser.add_argument("--pool", type=int, default=5, help="candidates behind the answer")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    args = options().parse_args()
    began = time.process_time()
    served = world(args.pool, args.seed)
    rows = measured(served, runs=args.runs, lists=args.lists, share=args.share, seed=args.seed)
    print(f"{args.runs} runs of {args.lists:,} lists, {args.share:.0%} explored, {served.candidates} candidates")
    head = f"{'policy':12}{'truth':>8}"
    print(head + "".join(f"{f'{name}: mean':>14}{'holds':>8}{'width':>8}" for name in ("SNIPS", "IPS")) + "  refused")
    for name, truth in truths(served).items():
        line = f"{name:12}{truth:>8.4f}"
        for found in (rows[name].snips, rows[name].ips):
            if not found:
                line += f"{'-':>14}{'-':>8}{'-':>8}"
                continue
            mean, width = np.mean([one.mean for one in found]), np.mean([one.high - one.low for one in found])
            line += f"{mean:>14.4f}{holds(found, truth):>8}{width:>8.3f}"
        print(f"{line}{rows[name].refused:>9}")
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
