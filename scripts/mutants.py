"""Runs mutants: each is one edit of a copy of this checkout that named tests must notice.

A file of tests/mutants has a table for each mutant: `file`, `old` and `new` (a text that occurs once,
and what takes its place), `breaks` (what is wrong then) and `killed_by`, the tests that must turn red,
the cheapest first. A test is a target and its filters:

    operators FILTER…     unit tests of the crate `operators`
    driftline FILTER…     unit tests of the program
    drift FILTER…         operators/tests/drift
    integration FILTER…   tests/integration
    library FILTER…       tests/library
    python ARGUMENT…      pytest in tests/python

The copy and what is built from it are in CARGO_TARGET_DIR/mutants; crates of the registry are those of
CARGO_TARGET_DIR. The checkout is read only.
"""

import argparse
import filecmp
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
COPY = BUILD / "mutants" / "tree"
TEST_TIMEOUT_S = 300

# What cargo builds for a target, and the (package, target) of the executable among it.
TARGETS = {
    "operators": (["test", "--no-run", "--lib"], ("driftline-operators", "lib")),
    "driftline": (["test", "--no-run", "--lib"], ("driftline", "lib")),
    "drift": (["test", "--no-run", "--test", "drift"], ("driftline-operators", "test")),
    "integration": (["test", "--no-run", "--test", "integration"], ("driftline", "test")),
    "library": (["test", "--no-run", "--test", "library"], ("driftline", "test")),
    "python": (["build", "--bin", "driftline"], ("driftline", "bin")),
}
FIELDS = {"file", "old", "new", "breaks", "killed_by"}


class Broken(Exception):
    """The table or the tests are wrong, so that nothing follows for a mutant."""


class DoesNotCompile(Exception):
    pass


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    breaks: str
    killed_by: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """The text of the file with the edit."""
        path = root / self.file
        text = path.read_text() if path.is_file() else ""
        if (found := text.count(self.old)) != 1:
            raise Broken(f"does not apply: {found} places in {self.file}")
        return text.replace(self.old, self.new)


def load(folder: Path = ROOT / "tests" / "mutants") -> dict[str, Mutant]:
    mutants = {}
    for path in sorted(folder.glob("*.toml")):
        for name, fields in tomllib.loads(path.read_text()).items():
            if fields.keys() != FIELDS or name in mutants or not fields["killed_by"]:
                raise Broken(f"{path.name}: {name}: twice, or its keys are not {sorted(FIELDS)}")
            if wrong := [t for t in fields["killed_by"] if t.split()[0] not in TARGETS]:
                raise Broken(f"{path.name}: {name}: no such tests: {wrong}")
            fields["killed_by"] = tuple(fields["killed_by"])
            mutants[name] = Mutant(name, **fields)
    return mutants


def sync():
    """Makes the copy equal to the checkout; files that are equal keep their times."""
    listed = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    for path in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(path.relative_to(COPY)) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or not filecmp.cmp(source, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)


def run(command, timeout_s, cwd=COPY, env=None):
    """Exit code (None after the time-out), standard output and standard error."""
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | (env or {}), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout_s)
        return process.returncode, out, err
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None, out, err
        raise


def executable(line: str) -> tuple[str, str, str, str] | None:
    """Package, kind of target, its name, and the executable, if cargo says that it has made one."""
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("reason") != "compiler-artifact" or not message["executable"]:
        return None
    package = re.search(r"([^/#]+)#(?:(.*)@)?[^@]*$", message["package_id"])
    target = message["target"]
    name = package[2] or package[1]
    return name, target["kind"][0], target["name"], message["executable"]


def build(target: str) -> Path:
    """The executable of a target, built from the copy. What else cargo would make is left undone."""
    (verb, *arguments), wanted = TARGETS[target]
    messages = "--message-format=json-render-diagnostics"
    command = ["cargo", verb, *arguments, "--workspace", "--locked", messages]
    # Registry crates are shared with the checkout, executables are not.
    env = {"CARGO_BUILD_BUILD_DIR": str(BUILD), "CARGO_TARGET_DIR": str(BUILD / "mutants/target")}
    if wanted[1] == "lib":
        # To optimise our crates takes longer than their unit tests; registry crates stay as they are.
        env["CARGO_PROFILE_DEV_OPT_LEVEL"] = "0"
    with (COPY.parent / "cargo.log").open("w+") as log:
        cargo = subprocess.Popen(
            command, cwd=COPY, env=os.environ | env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            for package, kind, name, path in filter(None, map(executable, cargo.stdout)):
                if (package, kind) == wanted and (kind != "test" or name == target):
                    return Path(path)
            if cargo.wait() == 0:
                raise Broken(f"cargo made no executable for {target!r}")
            log.seek(0)
            errors = log.read()[-3000:]
            if cargo.returncode < 0 or "(signal: " in errors:
                raise Broken(f"the compiler was stopped:\n{errors}")
            raise DoesNotCompile(errors)
        finally:
            if cargo.poll() is None:
                os.killpg(cargo.pid, signal.SIGKILL)
                cargo.wait()


def test(killer: str, executables: dict) -> list[str]:
    """The tests of `killer` that fail. `executables` has those that are built, by target."""
    target, *arguments = shlex.split(killer)
    if target not in executables:
        executables[target] = build(target)
    made = str(executables[target])
    if target == "python":
        arguments = [a if a.startswith("-") or not a.endswith(".py") and ".py::" not in a
                     else f"tests/python/{a}" for a in arguments]  # fmt: skip
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
        code, out, err = run(command, TEST_TIMEOUT_S, env={"DRIFTLINE_BIN": made})
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", out, re.M)
        ran = code in (0, 1)
    else:
        package = COPY / ("operators" if TARGETS[target][1][0] == "driftline-operators" else ".")
        code, out, err = run([made, *arguments], TEST_TIMEOUT_S, cwd=package)
        failed = re.findall(r"^test (\S+) .*FAILED$", out, re.M)
        ran = not re.search(r"^test result: .* 0 passed; 0 failed", out, re.M)
    if code is None:
        return [f"{killer} (no end after {TEST_TIMEOUT_S} s)"]
    if not ran:
        raise Broken(f"no test runs: {killer}\n{(out + err)[-1000:]}")
    return failed or ([] if code == 0 else [f"{killer} (exit {code})"])


def elsewhere() -> list[str]:
    """The tests of the crates that fail, if those that should have did not."""
    return [f"{target}: {name}" for target in TARGETS if target != "python"
            for name in test(target, {})]  # fmt: skip


def verdict(mutant: Mutant) -> tuple[str, str]:
    """What becomes of a mutant: killed, or why not; and what says so."""
    path, executables = COPY / mutant.file, {}
    try:
        mutated = mutant.applied(COPY)
    except Broken as error:
        return "does not apply", str(error)
    original = path.read_text()
    path.write_text(mutated)
    try:
        for killer in mutant.killed_by:
            if failed := test(killer, executables):
                return "killed", failed[0] + (f" and {len(failed) - 1} more" * (len(failed) > 1))
        others = elsewhere()
        return "survived", f"its tests; red are {', '.join(others)}" if others else "all tests"
    except DoesNotCompile as error:
        return "does not compile", str(error)
    finally:
        path.write_text(original)


def check_tests(mutants: list[Mutant]):
    """Without a mutant nothing may be red, or red would say nothing."""
    executables = {}
    for killer in dict.fromkeys(killer for mutant in mutants for killer in mutant.killed_by):
        if failed := test(killer, executables):
            raise Broken(f"fails without a mutant: {killer}: {failed[0]}")


def chosen(mutants: dict[str, Mutant], arguments) -> list[Mutant]:
    if arguments.sample is None:
        if unknown := [name for name in arguments.names if name not in mutants]:
            raise Broken(f"no such mutants: {', '.join(unknown)}")
        return [mutants[name] for name in arguments.names or mutants]
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    quick = [m for m in mutants.values() if m.killed_by[0].split()[0] == "operators"]
    print(f"{arguments.sample} of {len(quick)} mutants: --seed {seed}", flush=True)
    return random.Random(seed).sample(quick, min(arguments.sample, len(quick)))


def main() -> int:
    parser = argparse.ArgumentParser(description="Breaks the program and looks whether tests notice.")
    parser.add_argument("names", nargs="*", help="mutants; all of them by default")
    parser.add_argument("--sample", type=int, help="so many, drawn at random")
    parser.add_argument("--seed", type=int, help="of the sample")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    arguments = parser.parse_args()
    mutants = load()
    selected = chosen(mutants, arguments)
    if arguments.list:
        for mutant in selected:
            print(f"{mutant.name:40} {mutant.breaks}")
        return 0
    # As an interrupt does it, so that what was started is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: stopped"))
    started = time.monotonic()
    sync()
    check_tests(selected)
    print(f"their tests pass without a mutant ({time.monotonic() - started:.0f} s)", flush=True)
    verdicts = {}
    for mutant in selected:
        at = time.monotonic()
        verdicts[mutant.name], why = verdict(mutant)
        took = time.monotonic() - at
        print(f"{verdicts[mutant.name]:16} {mutant.name}: {why} ({took:.0f} s)", flush=True)
    bad = [name for name, word in verdicts.items() if word != "killed"]
    print(f"{len(verdicts) - len(bad)} of {len(verdicts)} mutants killed")
    if bad:
        print(f"error: not killed: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Broken, DoesNotCompile) as error:
        sys.exit(f"error: {error}")
