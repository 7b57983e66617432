"""The mutants of tests/mutants fit the source, and what runs them tells what it should."""

import subprocess
import sys
from dataclasses import replace

import pytest

from support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import mutants  # noqa: E402

MUTANTS = mutants.load()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_applies(name):
    """One that does not has been left behind by a change of the source."""
    mutant = MUTANTS[name]
    assert mutant.applied(ROOT) != (ROOT / mutant.file).read_text()
    assert mutant.breaks


def test_there_are_mutants_of_every_part():
    assert len(MUTANTS) >= 100
    files = {mutant.file for mutant in MUTANTS.values()}
    for part in ("admit", "watermark", "gate", "exchange", "rows", "micro_batch", "score/lane", "score/evaluate",
                 "numbers", "dead_letter", "drift/panes", "drift/windows", "drift/figures",
                 "drift/alarms", "features/categories", "features/window/values", "core/mod",
                 "core/waiting", "core/versions", "core/tables", "core/windows", "core/finish",
                 "core/drift", "stages/mod", "stages/reader", "stages/split"):  # fmt: skip
        assert f"operators/src/{part}.rs" in files, part


def test_an_edit_that_fits_no_place_or_several_does_not_apply():
    mutant = next(iter(MUTANTS.values()))
    for old, places in [("no such text", "0 places"), ("e", "places")]:
        with pytest.raises(mutants.Broken, match=places):
            replace(mutant, old=old).applied(ROOT)


TABLE = """
[m]
file = "f"
old = "a"
new = "b"
breaks = "it"
killed_by = {killed_by}
"""


@pytest.mark.parametrize(
    "text, why",
    [
        (TABLE.format(killed_by="[]"), "m: twice, or its keys"),
        (TABLE.format(killed_by='["operators"]') + 'more = "x"', "m: twice, or its keys"),
        (TABLE.format(killed_by='["nowhere x"]'), "no such tests"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, why):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(mutants.Broken, match=why):
        mutants.load(tmp_path)


def test_a_name_in_two_tables_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text(TABLE.format(killed_by='["operators"]'))
    with pytest.raises(mutants.Broken, match="b.toml: m: twice"):
        mutants.load(tmp_path)


def test_verdicts(tmp_path, monkeypatch):
    """What is killed, what survives, and that the file is as it was."""
    monkeypatch.setattr(mutants, "COPY", tmp_path)
    (tmp_path / "f").write_text("a")
    killed_by = ("first", "second")
    mutant = mutants.Mutant("m", "f", "a", "b", "it", killed_by)
    red = set()

    def test(killer, _executables):
        assert (tmp_path / "f").read_text() == "b"
        if killer == "error":
            raise mutants.DoesNotCompile("why")
        return [f"{killer}::test"] if killer in red else []

    monkeypatch.setattr(mutants, "test", test)
    assert mutants.verdict(mutant) == ("survived", "all tests")
    red.add("second")
    assert mutants.verdict(mutant) == ("killed", "second::test")
    red = {"drift"}
    assert mutants.verdict(mutant) == ("survived", "its tests; red are drift: drift::test")
    assert mutants.verdict(replace(mutant, killed_by=("error",))) == ("does not compile", "why")
    assert mutants.verdict(replace(mutant, old="x"))[0] == "does not apply"
    assert (tmp_path / "f").read_text() == "a"


def test_the_same_seed_draws_the_same_sample():
    def names(seed):
        command = [sys.executable, ROOT / "scripts/mutants.py", "--list", "--sample", "5"]
        listed = subprocess.run(
            [*command, "--seed", str(seed)], check=True, capture_output=True, text=True
        )
        return listed.stdout.splitlines()

    assert names(1) == names(1) != names(2)
    assert "--seed 1" in names(1)[0] and len(names(1)) == 6
