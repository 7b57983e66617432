"""Events in any order of arrival: within the allowed lateness that is not seen in the results."""

import json

import pytest

from disorder import (
    BLANKED, CANCELLED, DEPARTED, READ, assert_windows, but, lateness, without,
)  # fmt: skip
from support import (
    DISORDERED, FEATURES, HOUR_MS, MINUTE_MS, SPREADS, assert_same, dead_letters, drift, inputs,
    only, predictions,
)  # fmt: skip

PATIENT = lateness(6 * HOUR_MS)


# Within the allowed lateness


@pytest.mark.parametrize("spread", SPREADS)
def test_with_patience_disorder_is_not_seen(runs, replay, restored, spread):
    run, terms = replay(restored, *SPREADS[spread], **PATIENT)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    full = runs.full("trees")
    assert_same(predictions(run), predictions(full))
    assert_same(drift(run), drift(full))


@pytest.mark.parametrize("spread", SPREADS)
def test_blanked_tail_numbers_change_their_planes_alone(runs, replay, disordered, spread):
    run, terms = replay(DISORDERED, *SPREADS[spread], **PATIENT)
    assert terms == (READ, DEPARTED, 0, CANCELLED)
    rows, full = predictions(run), predictions(runs.full("trees"))
    before, after = disordered.windows(), disordered.windows(with_blanks=True)
    idle, idle_after = before["plane_idle_h"], after["plane_idle_h"]
    # Those whose plane's last row is one that was blanked, and the blanked ones themselves.
    following = {name for name in idle if idle[name] != idle_after[name]} - disordered.blanked
    assert len(disordered.blanked) == BLANKED and 1_000 < len(following) <= BLANKED
    affected = disordered.blanked | following
    assert_same(without(rows, affected), without(full, affected))
    assert_windows(rows, inputs(rows), after)
    then, now = inputs(only(full, following)), inputs(only(rows, following))
    assert (but(then, "plane_idle_h") == but(now, "plane_idle_h")).all()
    # Without a tail number the plane is unknown, and nothing else.
    blanked = only(rows, disordered.blanked)
    assert blanked["key"].null_count == BLANKED
    then, now = inputs(only(full, disordered.blanked)), inputs(blanked)
    plane = ["plane_age", "plane_seats", "plane_idle_h"]
    assert (but(then, *plane) == but(now, *plane)).all()
    # The defaults are a plane of 2001 with 149 seats, not seen for a week.
    ages, seats, idle = (set(now[:, FEATURES.index(name)].tolist()) for name in plane)
    assert ages <= {12.0, 13.0} and seats == {149.0} and idle == {168.0}


def test_cancelled_flights_are_dead_letters(replay, disordered):
    run, _ = replay(DISORDERED, "--workers", 2, **PATIENT)
    letters = dead_letters(run)
    assert letters.num_rows == CANCELLED
    assert letters["reason"].unique().to_pylist() == ["no_event_time"]
    assert letters["event_time"].null_count == CANCELLED
    read = {"event_id", "event_time", "carrier", "tailnum", "origin", "dest", "hour", "minute"}
    read |= {"dep_delay", "distance"}
    originals = {
        str(DISORDERED / name): rows.to_pylist() for name, rows in disordered.files.items()
    }  # fmt: skip
    seen = set()
    for letter in letters.to_pylist():
        original = originals[letter["partition"]][letter["offset"]]
        assert original["event_time"] is None
        payload = json.loads(letter["payload"])
        assert payload.keys() >= read
        assert payload == {name: original[name] for name in payload}
        assert letter["event_id"] == original["event_id"]
        seen.add(original["event_id"])
    assert len(seen) == CANCELLED


def test_the_rule_by_hand(disordered):
    """The data is as disordered as its README says."""
    assert len(disordered.behind) == DEPARTED
    assert len(disordered.late(0)) == 102_098
    assert len(disordered.late(30 * MINUTE_MS)) == 292
    assert max(disordered.behind.values()) <= 6 * HOUR_MS
