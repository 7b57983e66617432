"""What programs that measure have in common: their options, and what they say of where they ran."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def say(text: str):
    print(f"==> {text}", file=sys.stderr, flush=True)


def said(*command) -> str:
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, cwd=ROOT)
    return (done.stdout + done.stderr).strip()


def machine() -> str:
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpus[0].split(":")[1].strip() if cpus else "an unknown CPU"
    return f"{os.cpu_count()} cores ({model}), Linux {os.uname().release.split('-')[0]}"


def driftline_version(program: str) -> str:
    """Of a build of this checkout."""
    changed = said("git", "status", "--porcelain", "--untracked-files=no")
    commit = said("git", "rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")
    return f"{said(program, '--version')} (checkout {commit})"


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number
