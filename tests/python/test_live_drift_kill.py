"""Drift of a job that is killed: no window that it closed is lost, and none is written twice."""

from drift_crash import campaign


def test_windows_closed_before_a_kill_are_kept_and_only_those_that_were_open_are_partial(
    broker, tmp_path
):
    campaign(
        broker, tmp_path, "--seed", 5, "--events", 24_000, "--kills", 3, "--verbose",
    )  # fmt: skip
