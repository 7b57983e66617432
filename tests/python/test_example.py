"""The example of the library: a separate crate that is built and run."""

import os
import re
import subprocess
from pathlib import Path

from support import binary

EXAMPLE = "driftline-example"


def run(folder):
    ran = subprocess.run([Path(binary()).with_name(EXAMPLE)], cwd=folder, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_the_example_does_what_it_says(tmp_path):
    lines = run(tmp_path)
    assert "  account       14,000 = 14,000 predictions + 0 skipped + 0 dead letters + 0 pending" in lines
    assert lines[-4] in run(tmp_path), "another number of risky payments the second time"
    assert re.fullmatch(r"risky payments: [1-9]\d*", lines[-4])
    assert lines[-3:] == [
        "a day of 2000 payments: 2000 scored on request",
        "a day of 2000 payments: 2000 scored on request",
        "4000 read, 4000 scored, 0 missing",
    ]
    assert os.listdir(tmp_path) == []
