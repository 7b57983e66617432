"""Standard output and standard error as pipes: what is written to them, and readers that leave."""

import gzip
import json
import os
import re
import signal
import subprocess

import pyarrow as pa
import pytest

from running import EVENT, start, wait_for
from support import (
    DEPARTURES, DISORDERED, JOB, account, binary, driftline, environment, files, parts,
    predictions, refusal,
)  # fmt: skip

# Small epochs, so that there are many, and late rows among them.
ENV = {"STREAMING_JOB__EPOCH_ROWS_MAX": "700"}
LIMIT = ["--limit", 12_000]
SPREADS = {
    "1 worker": ["--workers", 1],
    "2 workers": ["--workers", 2],
    "2 workers, bytes": ["--workers", 2, "--exchange", "bytes"],
    "4 workers": ["--workers", 4],
}


def export(*options, **env):
    return driftline("export", JOB, *options, env=ENV | env)


def line_of(stderr: str, name: str):
    """What the summary says under a name, if it does."""
    found = re.search(rf"^  {name} +(.*)$", stderr, flags=re.M)
    return found and found[1]


# What is written


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A folder that holds the departures twice: of each row another with equal time and id."""
    folder = tmp_path_factory.mktemp("twice")
    for name in ("a", "b"):
        (folder / f"{name}.parquet").symlink_to(DEPARTURES)
    return folder


@pytest.fixture(scope="module")
def in_files(tmp_path_factory, twice):
    """By name: the options of an export, and the bytes of the file that one worker writes."""
    cases = {
        "json": (["--input", DISORDERED, "--format", "json"], {}),
        "csv": (["--input", DISORDERED, "--format", "csv"], {}),
        "ties": (["--input", twice, "--format", "csv"], {}),
        "epochs": (["--input", DISORDERED, "--format", "json"], {"STREAMING_JOB__ORDER": "epoch"}),
    }
    found = {}
    for name, (options, env) in cases.items():
        out = tmp_path_factory.mktemp("features") / name
        done = export(*options, *LIMIT, "--out", out, **env)
        (file,) = parts(out)
        found[name] = (options, env, file.read_bytes(), account(done.stderr))
    # Rows that were late stand behind later ones: sorting all rows would not do.
    times = [json.loads(line)["event_time"] for line in found["json"][2].splitlines()]
    assert times != sorted(times)
    return found


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", ["json", "csv", "ties", "epochs"])
def test_standard_output_has_the_bytes_of_the_file_of_one_worker(in_files, name, spread):
    options, env, expected, balance = in_files[name]
    done = export(*options, *LIMIT, "--out", "-", *SPREADS[spread], **env)
    assert done.stdout == expected
    assert account(done.stderr) == balance
    assert line_of(done.stderr, "features") is None


def test_lines_of_json_come_without_a_format_and_compressed_ones_if_asked(in_files):
    _, _, expected, _ = in_files["json"]
    options = ["--input", DISORDERED, *LIMIT, "--out", "-", "--workers", 2]
    assert export(*options).stdout == expected
    assert gzip.decompress(export(*options, "--format", "json.gz").stdout) == expected
    compressed = pa.BufferReader(export(*options, "--format", "json.zst").stdout)
    assert pa.CompressedInputStream(compressed, "zstd").read() == expected


def test_a_header_alone_where_there_is_no_row():
    of_none = ["--format", "csv", "--out", "-", "--limit", 5]
    done = export(*of_none, "--workers", 3, STREAMING_EVENT__FILTER="distance < 0")
    assert done.stdout.startswith(b"event_id,event_time,") and done.stdout.count(b"\n") == 1


def test_dead_letters_are_kept_only_if_asked(tmp_path):
    options = ["--input", DISORDERED, *LIMIT]
    export(*options, "--format", "json", "--out", tmp_path / "out")
    (written,) = parts(tmp_path / "out_dead_letters")
    expected = written.read_bytes()
    (tmp_path / "here").mkdir()
    counted = driftline("export", JOB, *options, "--out", "-", env=ENV, cwd=tmp_path / "here")
    assert not files(tmp_path / "here")
    letters = account(counted.stderr)[3]
    assert letters == expected.count(b"\n") == expected.count(b'"no_event_time"') > 0
    assert line_of(counted.stderr, "letters in") == "none were kept; --dead-letters DIR keeps them"
    assert line_of(counted.stderr, "dead letters") == f"{letters:,} no_event_time"
    for out in ("-", tmp_path / "features"):
        kept = export(*options, "--out", out, "--format", "json", "--dead-letters", tmp_path / "d")
        assert line_of(kept.stderr, "letters in") == str(tmp_path / "d")
        (file,) = parts(tmp_path / "d")
        assert file.read_bytes() == expected
        file.unlink()
    assert not (tmp_path / "features_dead_letters").exists()
    (tmp_path / "d" / "part-00000.jsonl").touch()
    again = ["--out", "-", "--dead-letters", tmp_path / "d"]
    assert "--overwrite" in refusal("export", JOB, *options, *again)


@pytest.mark.parametrize("out", ["-", "out"])
def test_too_many_dead_letters_fail_an_export(tmp_path, out):
    """Two of eight lines have no event time."""
    lines = [EVENT.replace(b'"x"', b'"%d"' % number) for number in range(6)]
    lines[2:2] = lines[4:4] = [EVENT.replace(b"event_time", b"time")]
    options = ["export", JOB, "--input", "-", "--out", out, "--format", "json", "--overwrite"]
    for share, code in ((0.25, 0), (0.24, 1)):
        done = driftline(
            *options, "--max-dead-letter-share", share, stdin=b"".join(lines), cwd=tmp_path,
            env={"STREAMING_JOB__MAX_DEAD_LETTER_SHARE": "0.0"}, code=code,
        )  # fmt: skip
        assert account(done.stderr) == (8, 6, 0, 2, 0)
        said = "error: 2 of 8 records read are dead letters (2 no_event_time), more than the share"
        assert done.stderr.splitlines()[-1].startswith(said) == (code == 1)
        written = done.stdout or parts(tmp_path / "out")[0].read_bytes()
        assert written.count(b"\n") == 6


# Readers that leave


def without_reader(*arguments, both=False, env=None):
    """A run whose standard output, or with it standard error, was closed before it began."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=writing,
            stderr=writing if both else subprocess.PIPE, env=environment(env), timeout=60,
        )  # fmt: skip
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["export", "--help"], ["help", "replay"], ["schema"],
        ["completions", "bash"], ["check", JOB], ["plan", JOB], ["plan", JOB, "--format", "mermaid"],
        ["export", JOB, "--out", "-"], ["export", JOB, "--out", "-", "--workers", 2],
        ["replay", JOB, "--limit", 500, "--out", "-"],
        ["replay", JOB, "--limit", 500, "--out", "-", "--workers", 2],
        ["export", JOB, "--out", "-", "--format", "csv"],
        ["export", JOB, "--out", "-", "--format", "csv.gz"],
        ["export", JOB, "--out", "-", "--format", "json.zst", "--workers", 2],
    ],
    ids=lambda arguments: " ".join(map(str, arguments)).replace(str(JOB), "JOB"),
)  # fmt: skip
def test_a_reader_that_has_left_is_no_error(arguments):
    done = without_reader(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_line_of_an_export_is_all_that_is_made(tmp_path, workers):
    """More than a pipe holds is left: the run has not gone on to its end."""
    letters = tmp_path / "letters"
    line = (
        f"{binary()} export {JOB} --out - --workers {workers} --dead-letters {letters} "
        "| head -n 1; echo ${PIPESTATUS[@]}"
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, env=environment())
    first, codes = done.stdout.splitlines()
    assert first.startswith(b'{"event_id":') and codes == b"0 0"
    assert done.stderr == b"" and not files(letters)


def test_an_export_that_waits_for_events_ends_with_its_reader(tmp_path):
    """Standard input stays open, and nothing comes to be written."""
    letters = tmp_path / "letters"
    process = start("export", JOB, "--input", "-", "--out", "-", "--dead-letters", letters)
    process.stdin.write(EVENT)
    process.stdin.flush()
    wait_for(lambda: list(letters.glob(".part-*")), process)
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    process.stdin.close()
    assert process.stderr.read() == b"" and not files(letters)


def test_an_interrupted_export_says_that_rows_may_have_been_written(tmp_path):
    letters = tmp_path / "letters"
    process = start("export", JOB, "--input", "-", "--out", "-", "--dead-letters", letters)
    process.stdin.write(EVENT)
    process.stdin.flush()
    wait_for(lambda: list(letters.glob(".part-*")), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    process.stdin.close()
    said = b"error: interrupted; standard output may have been given a part of the rows\n"
    assert process.stderr.read() == said and not files(letters)


def test_a_run_whose_words_nobody_reads_comes_to_its_end(tmp_path):
    done = without_reader("replay", JOB, "--limit", 500, "--out", tmp_path / "out", both=True)
    assert done.returncode == 0
    assert predictions(tmp_path / "out").num_rows == 500
    assert without_reader("check", tmp_path / "none.toml", both=True).returncode == 1
    assert without_reader("repaly", both=True).returncode == 2


# A disk that is full


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["schema"], ["completions", "fish"], ["check", JOB], ["plan", JOB],
        ["export", JOB, *LIMIT, "--out", "-"], ["export", JOB, "--limit", 1, "--out", "-", "--format", "csv"],
        ["export", JOB, "--limit", 1, "--out", "-", "--format", "csv.zst"],
        ["export", JOB, "--limit", 1, "--out", "-", "--format", "json.gz", "--workers", 2],
    ],
    ids=lambda arguments: " ".join(map(str, arguments)).replace(str(JOB), "JOB"),
)  # fmt: skip
def test_a_full_disk_is_an_error(arguments):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [binary(), *map(str, arguments)], stdout=full, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, env=environment(), timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith(b"error: standard output: No space left on device (os error 28)")
