"""What README shows of job files is true: it runs."""

import re
from pathlib import Path

import pytest

from support import JOB, ROOT, account, driftline, predictions

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", README, flags=re.S | re.M)
MODEL = JOB.read_text()[JOB.read_text().index("[model]") : JOB.read_text().index("[realtime_ml]")]
LIMIT = 10_000


def block(start: str) -> str:
    found = [text for text in BLOCKS if text.startswith(start)]
    assert len(found) == 1, f"README has {len(found)} blocks that start with {start}"
    return found[0]


def write(path: Path, text: str) -> Path:
    """The job, whose paths are relative to jobs/, somewhere else."""
    text = text.replace('"../data', f'"{ROOT}/data').replace('"../out', f'"{path.parent}/out')
    path.write_text(text)
    return path


def without_drift(text: str) -> str:
    return text[: text.index("[drift]")] + text[text.index("[sinks.predictions]") :]


def test_the_job_with_every_section(tmp_path):
    job = write(tmp_path / "job.toml", block("[job]"))
    (tmp_path / "out/flights").mkdir(parents=True)
    driftline("baseline", job, "--limit", LIMIT)
    checked = driftline("check", job)
    assert checked.stderr == ""
    assert checked.stdout.endswith(b"the job is sound\n")
    done = driftline("replay", job, "--limit", LIMIT, "--out", tmp_path / "results")
    read, scored, skipped, letters, pending = account(done.stderr)
    # The filter leaves JFK.
    assert read == LIMIT and 0 < skipped < LIMIT
    assert (scored + skipped, letters, pending) == (LIMIT, 0, 0)


ROWS = re.findall(r"^\| `\w+\.onnx`.*? \| .*? \| (.*?) \|$", README, flags=re.M)


def test_each_model_but_the_two_of_the_jobs_has_its_keys():
    shown = set(re.findall(r"models/(\w+)\.onnx", README)) | {"logistic", "mlp"}
    shown_in_words = set(re.findall(r"`(\w+)\.onnx`", README))
    there = {path.stem for path in (ROOT / "data/flights/models").glob("*.onnx")}
    assert there == (shown | shown_in_words | {"trees"})


@pytest.mark.parametrize("keys", ROWS)
def test_a_model_by_its_keys(tmp_path, keys):
    keys = re.findall(r"`(.*?)`", keys)
    assert keys
    kept = [line for line in MODEL.splitlines() if not line.startswith(("path", "name"))]
    text = without_drift(JOB.read_text()).replace(MODEL, "\n".join([*kept, *keys]) + "\n\n")
    scored(write(tmp_path / "job.toml", text), tmp_path)


def test_a_model_with_an_input_for_each_column(tmp_path):
    text = without_drift(JOB.read_text()).replace(MODEL, block("[features.carrier]") + "\n")
    scored(write(tmp_path / "job.toml", text), tmp_path)


def scored(job, tmp_path):
    assert driftline("check", job).stdout.endswith(b"the job is sound\n")
    driftline("replay", job, "--limit", LIMIT, "--out", tmp_path / "results")
    assert predictions(tmp_path / "results").num_rows == LIMIT


def fenced(text: str, start: str) -> str:
    """The block of code that begins with the line `start`, of README or of a module's documentation."""
    return text[text.index(start) :].split("```")[0]


def test_the_picture_is_of_the_parts_of_the_job(tmp_path):
    job = write(tmp_path / "job.toml", block("[job]"))
    drawn = driftline("plan", job, "--format", "mermaid").stdout.decode()
    # Titles alone, and arrows without what they carry.
    drawn = re.sub(r'\|"[^"]*"\|', "", re.sub(r'<br/>[^"]*', "", drawn))
    lines = [line for line in drawn.splitlines() if not line.startswith("  bounds[")]
    assert fenced(README, "flowchart LR").splitlines() == lines


def test_the_operators_are_drawn_as_in_their_module():
    stages = (ROOT / "operators/src/stages/mod.rs").read_text()
    documented = re.sub(r"^//! ?", "", stages, flags=re.M)
    start = "one worker       Fused"
    assert fenced(README, start) == fenced(documented, start)


def test_the_folders_of_the_core_are_told_of():
    told = fenced(README, "src/        the rim")
    for folder in ("core", "stages"):
        (line,) = re.findall(rf"^  src/{folder}/ .*(?:\n {{10,}}.*)*", told, flags=re.M)
        there = {path.stem for path in (ROOT / "operators/src" / folder).glob("*.rs")}
        missing = there - {"mod", "values", "versions"} - set(re.findall(r"\w+", line))
        assert not missing
