"""Damaged files are refused in one line that names them, or the damage is of no account."""

import pyarrow.parquet as pq
import pytest

from support import DEPARTURES, JOB, assert_same, driftline, files, predictions, refusal

LIMIT = ["--limit", 2_000]
READ = ["event_id", "event_time", "carrier", "tailnum", "dep_delay", "distance", "hour"]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The departures with a checksum on every page, without which damage need not show."""
    path = tmp_path_factory.mktemp("checked") / "departures.parquet"
    rows = pq.read_table(DEPARTURES)
    pq.write_table(
        rows, path, row_group_size=16_384, compression="zstd", write_page_checksum=True
    )
    return path


def damage(path, checked, column, group, change):
    """Writes the file `checked` with the middle of one column's pages changed."""
    content = bytearray(checked.read_bytes())
    metadata = pq.read_metadata(checked)
    at = metadata.schema.to_arrow_schema().get_field_index(column)
    chunk = metadata.row_group(group).column(at)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    middle = start + chunk.total_compressed_size // 2
    content[middle : middle + 16] = change(content[middle : middle + 16])
    path.write_bytes(content)


def refused_input(path, out, *options):
    error = refusal("replay", JOB, "--input", path, "--out", out, *options)
    assert path.name in error
    assert not files(out)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("column", READ)
def test_flipped_bytes_are_found(checked, tmp_path, column, workers):
    path = tmp_path / "damaged.parquet"
    damage(path, checked, column, 10, lambda found: bytes(byte ^ 0xFF for byte in found))
    refused_input(path, tmp_path / "out", "--workers", workers)


def test_a_damaged_file_leaves_older_results(checked, tmp_path):
    out = tmp_path / "out"
    driftline("replay", JOB, *LIMIT, "--out", out)
    before = {path: path.read_bytes() for path in files(out)}
    path = tmp_path / "damaged.parquet"
    damage(path, checked, "dep_delay", 12, lambda found: bytes(len(found)))
    error = refusal("replay", JOB, "--input", path, "--out", out, "--overwrite")
    assert path.name in error
    assert {path: path.read_bytes() for path in files(out)} == before


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "truncated.parquet"
    content = DEPARTURES.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused_input(path, tmp_path / "out")


def test_a_file_without_its_middle_is_refused(tmp_path):
    path = tmp_path / "gap.parquet"
    content = DEPARTURES.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + content[2 * third :])
    refused_input(path, tmp_path / "out", "--workers", 2)


def test_damage_anywhere_is_no_panic_and_no_partial_result(tmp_path):
    """In a page it is found or of no account; a footer has no checksum: damage may pass there."""
    whole, path = tmp_path / "whole.parquet", tmp_path / "damaged.parquet"
    rows = pq.read_table(DEPARTURES, columns=[*READ, "origin", "dest", "minute"]).slice(0, 4_000)
    pq.write_table(rows, whole, row_group_size=1_000, write_page_checksum=True)
    content = whole.read_bytes()
    pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    driftline("replay", JOB, "--input", whole, "--out", tmp_path / "out")
    refused = 0
    in_footer = range(pages, len(content), (len(content) - pages) // 60)
    for at in [*range(4, pages, pages // 60), *in_footer]:
        changed = bytes(byte ^ 0x55 for byte in content[at : at + 4])
        path.write_bytes(content[:at] + changed + content[at + 4 :])
        out = tmp_path / f"out-{at}"
        done = driftline("replay", JOB, "--input", path, "--out", out, code="any", timeout=20)
        if done.returncode == 0 and at < pages:
            assert_same(predictions(out), predictions(tmp_path / "out"))
        if done.returncode != 0:
            refused += 1
            assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
            assert not files(out)
    assert refused > 60


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x07"])
def test_a_damaged_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    env = {"STREAMING_MODEL__PATH": str(tmp_path / "model.onnx")}
    assert "model.onnx" in refusal("replay", JOB, "--out", tmp_path / "out", env=env)
