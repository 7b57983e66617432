"""Help says what is true: its examples are run as they stand. Completions complete."""

import re
import shlex
import subprocess

import pytest

from support import ROOT, binary, driftline, environment

COMMANDS = (
    "check", "plan", "models", "replay", "run", "export", "backtest", "baseline", "parity", "schema",
    "completions",
)  # fmt: skip


def help_of(*command) -> str:
    done = driftline(*command, "--help")
    assert not done.stderr
    return done.stdout.decode()


@pytest.fixture
def project(tmp_path):
    """The project's jobs and data as far as runs read and write them."""
    for path in [*(ROOT / "jobs").glob("*.*"), *(ROOT / "data").rglob("*")]:
        copy = tmp_path / path.relative_to(ROOT)
        if path.is_dir():
            copy.mkdir(parents=True)
        else:
            copy.parent.mkdir(exist_ok=True)
            copy.symlink_to(path)
    (tmp_path / "out").mkdir()
    (tmp_path / "driftline").symlink_to(binary())
    return tmp_path


def examples(text: str) -> list:
    """The command lines of an example, and what each is said to print."""
    found = []
    for line in text[text.index("\nExample") :].splitlines()[2:]:
        if line.startswith("  $ "):
            found.append((line[4:], []))
        elif line.startswith("  ") and line.strip():
            found[-1][1].append(line.strip())
    return found


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_examples_are_true(project, command):
    lines = examples(help_of(*command))
    assert lines
    # The committed schema may not change under a test.
    (project / "jobs" / "driftline.schema.json").unlink()
    env = environment()
    for line, said in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=project, env=env | {"PATH": f"{project}:{env['PATH']}"},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        for part in said:
            assert part in done.stdout + done.stderr, f"{line}\n{done.stdout}{done.stderr}"
        into = re.search(r"> (\S+)$", line)
        assert not into or (project / into[1]).stat().st_size > 0


def test_help_names_every_command_and_every_command_has_help():
    text = help_of()
    found = re.findall(r"^  (\w+)  +\S", text[text.index("Commands:") : text.index("Options:")], re.M)
    assert found == [*COMMANDS, "help"]
    for command in COMMANDS:
        short = driftline(command, "-h").stdout.decode()
        assert "Usage: driftline " + command in short and "Example" not in short
    assert driftline("--version").stdout.startswith(b"driftline ")


def completed(*words) -> list:
    """What bash offers for the last of the words."""
    typed = " ".join(map(shlex.quote, words))
    script = f"""
        source <("$PROGRAM" completions bash)
        COMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}
        $(complete -p driftline | sed 's/.*-F \\([^ ]*\\).*/\\1/') driftline {shlex.quote(words[-1])} {shlex.quote(words[-2])}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60,
        env=environment({"PROGRAM": binary()}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes():
    assert completed("driftline", "rep") == ["replay"]
    assert completed("driftline", "replay", "--ov") == ["--overwrite"]
    assert set(completed("driftline", "")) >= set(COMMANDS)
    assert completed("driftline", "plan", "--format", "me") == ["mermaid"]


@pytest.mark.parametrize("shell, mark", [
    ("bash", "complete -F"), ("zsh", "#compdef driftline"), ("fish", "complete -c driftline"),
    ("elvish", "edit:completion"), ("powershell", "Register-ArgumentCompleter"),
])  # fmt: skip
def test_each_shell_has_completions_of_every_command(shell, mark):
    script = driftline("completions", shell).stdout.decode()
    assert mark in script
    assert all(command in script for command in COMMANDS)
