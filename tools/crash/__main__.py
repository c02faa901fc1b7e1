"""The storm by hand.

    make soak-crash                                      # on the embedded log and on Kafka
    make soak-crash ARGS="--log embedded --kills 200 --seed 7"

Each line says what happened. The table at the end says how often, and whether what was made equals an undisturbed run.
A storm that failed leaves its folder, and the line that repeats it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tools.crash.storm import STAGES, Outcome, Plan, run
from tools.kafka_broker import KafkaBroker, missing_parts


def plans(told: argparse.Namespace) -> list[Plan]:
    """The storms of a command line. Power cuts have one of their own, with processes whose flushes are recorded."""
    made = []
    for log in ("embedded", "kafka") if told.log == "both" else (told.log,):
        brokers = told.broker_kills if log == "kafka" else 0
        if told.kills or told.zombies or brokers:
            made.append(
                Plan(
                    log=log,
                    seed=told.seed,
                    kills=told.kills,
                    zombies=told.zombies,
                    broker_kills=brokers,
                    seconds=told.seconds,
                    stages=tuple(told.stages),
                )
            )
        if told.power_cuts:
            made.append(
                Plan(log=log, seed=told.seed, cuts=told.power_cuts, seconds=told.seconds, stages=tuple(told.stages))
            )
    return made


def one(plan: Plan, folder: Path) -> Outcome:
    """Runs one storm, with a broker of its own where it needs one."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {plan.log:8} {line}", flush=True)

    with ExitStack() as stack:
        broker = None
        if plan.log == "kafka":
            place = folder / "broker"
            place.mkdir(parents=True)
            broker = stack.enter_context(KafkaBroker(place))
        return run(plan, folder / "storm", broker, say)


def table(outcomes: list[Outcome]) -> str:
    """What happened and what came of it."""
    rows = [f"{'log':10}{'what':28}{'times':>6}"]
    for outcome in outcomes:
        rows += [f"{outcome.plan.log:10}{what:28}{times:>6}" for what, times in sorted(outcome.did.items())]
        result = (
            "FAILED"
            if outcome.failed
            else f"equal to an undisturbed run: {outcome.impressions} rankings, {outcome.examples} examples, "
            f"{outcome.steps} steps"
        )
        rows.append(f"{outcome.plan.log:10}{outcome.seconds:.0f} s: {result}")
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> int:
    """Runs storms; 0: all of them ended as an undisturbed run."""
    parser = argparse.ArgumentParser(prog="soak-crash", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--log", choices=("embedded", "kafka", "both"), default="both", help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs on each log (default: %(default)s)")
    parser.add_argument("--zombies", type=int, default=3, help="of each stage on each log (default: %(default)s)")
    parser.add_argument("--broker-kills", type=int, default=5, help="of the broker (default: %(default)s)")
    parser.add_argument("--power-cuts", type=int, default=20, help="on each log (default: %(default)s)")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="processes that run (default: all)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="after so long a storm ends (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the stream and of every choice (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where all is written (default: a new one in the temporary folder)")
    told = parser.parse_args(argv)
    if told.log != "embedded" and (why := missing_parts()) is not None:
        print(f"recdistill: {why}", file=sys.stderr)
        return 1
    folder = told.folder or Path(tempfile.mkdtemp(prefix="recdistill-crash-"))
    outcomes = []
    for number, plan in enumerate(plans(told)):
        place = folder / f"{number}-{plan.log}-{'cuts' if plan.cuts else 'kills'}"
        outcome = one(plan, place)
        outcomes.append(outcome)
        if not outcome.failed:
            shutil.rmtree(place)
    print(table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.failed]
    for outcome in failed:
        plan = outcome.plan
        words = f"--log {plan.log} --seed {plan.seed} --kills {plan.kills} --zombies {plan.zombies} "
        words += f"--broker-kills {plan.broker_kills} --power-cuts {plan.cuts}"
        print(f'recdistill: {outcome.failed}\nrepeat it: make soak-crash ARGS="{words}"', file=sys.stderr)
    if failed:
        print(f"recdistill: what they left is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
