"""What campaigns of crashes have in common: a seed, a broker of their own, what they tell."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from kafka import Broker, wait_until


def parser(description: str, events: int, kills: int):
    """The options that all have; `description` is the module's."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=events, metavar="N")
    parser.add_argument("--kills", type=int, default=kills, metavar="K", help="of the job")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="of all that happens")
    parser.add_argument("--workers", type=int, default=2, metavar="W")
    parser.add_argument("--verbose", action="store_true")
    return parser


def run(make, parser, broker, folder, arguments):
    """Runs what `make` makes of a broker, a folder and options; an error says the seed."""
    options = parser.parse_args([str(argument) for argument in arguments])
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    try:
        make(broker, folder, options).run()
    except BaseException as error:
        error.add_note(f"seed {options.seed}")
        raise


def main(campaign):
    """Runs a campaign with the arguments of the command line, beside a broker of its own."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        broker = Broker(folder / "kafka")
        try:
            campaign(broker, folder, *sys.argv[1:], "--verbose")
        finally:
            broker.discard()


def say(options, text):
    if options.verbose:
        print(f"seed {options.seed}: {text}", flush=True)


def stable(look):
    """What `look` finds once it finds the same twice: requests of the dead may be under way."""
    found = [look()]

    def is_same():
        time.sleep(0.2)
        found.append(look())
        return found[-1] == found[-2]

    wait_until(is_same, "the ends of topics stand still")
    return found[-1]
