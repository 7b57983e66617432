"""Runs in the background, to be looked at, disturbed or stopped while they are under way."""

import subprocess
import time

from support import JOB, binary, environment

EVENT = (
    b'{"event_time": "2013-01-01T10:17:00Z", "event_id": "x", "carrier": "UA", "hour": 5,'
    b'"tailnum": "N1", "origin": "EWR", "dest": "IAH", "minute": 1, "dep_delay": 1,'
    b'"distance": 1}\n'
)


def start(*arguments, cwd=None, **env):
    """A run in the background."""
    return subprocess.Popen(
        [binary(), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(env), cwd=cwd,
    )  # fmt: skip


def wait_for(condition, process):
    end = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end, "it did not begin within 30 s"
        time.sleep(0.01)


def start_on_one_event(out, job=JOB):
    """A run that has opened its output, was given one event and waits for more."""
    process = start("replay", job, "--input", "-", "--out", out)
    process.stdin.write(EVENT)
    process.stdin.flush()
    wait_for(lambda: list((out / "predictions").glob(".part-*")), process)
    return process
