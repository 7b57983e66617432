"""Compares the scores of a peer with ours, by event.

    bench/peers/compare.py OURS THEIRS [--within DIFFERENCE] [--broker ADDRESS]

Both are files of JSON lines or Parquet, or folders of them, with `event_id` and `score`; with a broker,
THEIRS is a topic of such messages. Scores are float32, as the model gives them. It fails if an event is
missing, unknown or scored twice, or if scores are further apart than told (0: the same float32)."""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl

SCORES = {"event_id": pl.String, "score": pl.Float32}


class Unequal(Exception):
    """What is compared is not of the same events, or says other things of them."""


@dataclass(frozen=True)
class Compared:
    events: int
    different: int
    largest: float

    def __str__(self) -> str:
        if not self.different:
            return f"{self.events:,} scores, all the same float32"
        return f"{self.events:,} scores, {self.different:,} of them different, by {self.largest:.3g} at most"


def read(place: Path) -> pl.DataFrame:
    """Ids and scores of a file, or of all files of a folder."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return parsed(str(place), [file for file in files if file.stat().st_size])


def read_topic(broker: str, topic: str) -> pl.DataFrame:
    """Ids and scores of all messages of a topic."""
    from topics import Broker

    return parsed(topic, map(io.BytesIO, Broker(broker).values(topic)))


def read_part(part) -> pl.DataFrame:
    if isinstance(part, Path) and part.suffix == ".parquet":
        return pl.read_parquet(part, columns=list(SCORES))
    return pl.read_ndjson(part, schema=SCORES)


def parsed(place: str, parts) -> pl.DataFrame:
    """Ids and scores of all parts."""
    try:
        frames = [read_part(part) for part in parts]
    except pl.exceptions.PolarsError as error:
        raise Unequal(f"{place} has no readable scores: {error}") from error
    if not frames:
        raise Unequal(f"{place} has no scores")
    rows = pl.concat(frames)
    if nulls := rows.select(pl.any_horizontal(pl.all().is_null()).sum()).item():
        raise Unequal(f"{place} has {nulls:,} rows without id or score")
    return rows


def compare(ours: pl.DataFrame, theirs: pl.DataFrame, within: float = 0.0) -> Compared:
    """How far the scores are apart.

    Raises Unequal if they are not of the same events, each of them once, or further apart than `within`."""
    for name, rows in ("ours", ours), ("theirs", theirs):
        if doubled := rows.height - rows["event_id"].n_unique():
            raise Unequal(f"{name} has {doubled:,} events twice")
    both = ours.join(theirs, on="event_id", how="full", coalesce=True, suffix="_theirs")
    missing, unknown = both["score_theirs"].null_count(), both["score"].null_count()
    if missing or unknown:
        of_ours = f"{missing:,} of our {ours.height:,} events are missing there"
        raise Unequal(f"{of_ours}, {unknown:,} are unknown here")
    # NaN is as far away as can be, from itself, too.
    apart = (both["score"].cast(pl.Float64) - both["score_theirs"]).abs().fill_nan(float("inf"))
    compared = Compared(both.height, int((apart > 0).sum()), apart.max() or 0.0)
    if compared.largest > within:
        raise Unequal(f"{compared}; stated is {within:.3g}")
    return compared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs")
    parser.add_argument("--within", type=float, default=0.0, metavar="DIFFERENCE")
    parser.add_argument("--broker", metavar="ADDRESS")
    given = parser.parse_args()
    try:
        theirs = read_topic(given.broker, given.theirs) if given.broker else read(Path(given.theirs))
        print(compare(read(given.ours), theirs, given.within))
    except (Unequal, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
