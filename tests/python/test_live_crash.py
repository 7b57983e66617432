"""Nothing is lost, whatever is killed: see crash.py, of which this is a short run."""

import pytest

from crash import campaign


@pytest.mark.parametrize("seed", [11, 12])
def test_killed_jobs_and_brokers_lose_nothing(broker, tmp_path, seed):
    campaign(
        broker, tmp_path, "--seed", seed, "--events", 30_000, "--per-second", 3_000,
        "--kills", 3, "--restarts", 1, "--stalls", 1, "--verbose",
    )  # fmt: skip
