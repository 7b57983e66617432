#!/usr/bin/env bash
# A column of string_view or binary_view is views into shared buffers, which is why rows can be taken and
# sliced without copying. pyarrow 26.0.1 writes an Arrow IPC stream of a slice with the buffers whole: one
# row out of 100,000 of 100 bytes takes 10 MB, where the same row as string takes 424 bytes. What sends
# rows in small batches (a Flight server, a cache, a log of batches) sends all rows of the first batch
# with each. The nbytes of the slice says so; its length and its schema do not. Casting to string before
# writing helps, concatenating does not. polars 2.1.0, whose frames hold the same views, writes 496 bytes of the
# same row, but what its to_arrow gives out with views is written by pyarrow with all rows again.
#
# Seen:  string 424, string_view 10006432, binary_view 10006432; polars 496, polars through pyarrow 10000520
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 polars==2.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

import polars as pl
import pyarrow as pa


def written(batch) -> int:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write(batch)
    return stream.getvalue().size


texts = [f"{number:0100}" for number in range(100_000)]
sizes = {}
for kind in (pa.string(), pa.string_view(), pa.binary_view()):
    values = [text.encode() for text in texts] if kind == pa.binary_view() else texts
    one = pa.array(values, kind).slice(5, 1)
    sizes[str(kind)] = written(pa.record_batch([one], ["text"]))
one = pl.DataFrame({"text": texts}).slice(5, 1)
stream = io.BytesIO()
one.write_ipc_stream(stream, compat_level=pl.CompatLevel.newest())
sizes["polars"] = len(stream.getvalue())
sizes["polars through pyarrow"] = written(one.to_arrow(compat_level=pl.CompatLevel.newest()))
print(sizes)
small, large = ["string", "polars"], ["string_view", "binary_view", "polars through pyarrow"]
as_seen = all(sizes[name] < 1_000 for name in small) and all(sizes[name] > 10_000_000 for name in large)
raise SystemExit(not as_seen)
PYTHON
