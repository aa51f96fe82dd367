"""Rows by a condition: those that DuckDB gives for the same words, or one error that names what is wrong."""

import datetime
import decimal
import tracemalloc
from contextlib import suppress

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture, load, search, write_predictions
from streamgmm.cli.main import main
from streamgmm.exceptions import CheckpointError, RowsError
from streamgmm.sources.open import open_rows
from streamgmm.sources.parquet import ParquetRows
from streamgmm.sources.where import RowFilter

N = 4000


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    some = lambda values: pa.array([None if i % 13 == 0 else v for i, v in enumerate(values)])  # noqa: E731
    return pa.table(
        {
            "id": np.arange(N),
            "x": rng.normal(size=N),
            "y": rng.normal(size=N).astype(np.float32),
            "small": some(rng.integers(-100, 100, N).astype(np.int8).tolist()).cast(pa.int8()),
            "large": pa.array(rng.integers(0, 2**63, N).astype(np.uint64) * np.uint64(2)),
            "holes": some(rng.normal(size=N).tolist()),
            "day": pa.array([datetime.date(2026, 1, 1) + datetime.timedelta(days=i // 200) for i in range(N)]),
            "seen": pa.array(np.datetime64("2026-01-01T00:00:00") + 60 * np.arange(N), type=pa.timestamp("ms")),
            "city": some([f"city {i % 17}" for i in range(N)]),
            "kind": pa.array([("new", "old", "it's")[i % 3] for i in range(N)]).dictionary_encode(),
            "active": some([bool(i % 2) for i in range(N)]),
            "price": some([decimal.Decimal(i).scaleb(-2) for i in range(N)]).cast(pa.decimal128(9, 2)),
            "year": np.where(np.arange(N) < N // 2, 2025, 2026),
            "country": pa.array([("DE", "FR", "a b")[i % 3] for i in range(N)]),
        }
    )


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    """In Hive's layout, in row groups whose bounds differ."""
    folder = tmp_path_factory.mktemp("hive") / "in"
    pads.write_dataset(
        table, folder, format="parquet", partitioning=["year", "country"], partitioning_flavor="hive",
        max_rows_per_group=300, min_rows_per_group=100,
    )  # fmt: skip
    return str(folder)


def expected_ids(folder, where):
    found = duckdb.sql(f"select id from read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true) where {where}")
    return sorted(row[0] for row in found.fetchall())


def ids(folder, where):
    rows = open_rows(folder, columns=["id"], where=where)
    found = np.concatenate([block.x[:, 0] for block in rows.read(0, rows.n_rows)]).astype(np.int64)
    assert len(found) == rows.n_rows
    return sorted(found.tolist())


CONDITIONS = (
    "day >= '2026-01-05' and country = 'DE'",
    "year = 2026",
    "year <> 2026 or country in ('FR', 'a b')",
    "country = 'a b' and x > 0.5 and year > 2024",
    "small between -10 and 10",
    "small not between -10 and 10",
    "small in (1, 2, -3, 500)",
    "small not in (1, 2)",
    "large > 9223372036854775807",
    "large = 18446744073709551616",
    "large >= -1",
    "large < -1 or id = 5",
    "small < 300 and id < 50",
    "small <> 300",
    "not small = 300",
    "id <= 7.5",
    "id = 7.5 or id = 9",
    "id <> 7.5",
    "large > 4611686018427387904.5",
    "x < id and id < 3",
    "city is not null and not city like '%3'",
    "holes between -1 and 1",
    "holes is null",
    "holes is not null and holes < 0",
    "not (x < 1)",
    "not x < 1 and not (y > 0 or city = 'city 3')",
    "day = DATE '2026-01-03'",
    "seen < '2026-01-01 10:00:00'",
    "seen >= TIMESTAMP '2026-01-02 00:00:00.5'",
    "city = 'city 3'",
    "city like 'city 1%'",
    "city not like '%3'",
    "kind = 'it''s'",
    "kind <> 'new'",
    "active",
    "not active",
    "active = true and id >= 3990",
    "price >= 12.5",
    "price = 3.07",
    "id < small",
    "x > y",
    "(id < 10 or id >= 3995) and ((small > 0))",
    "10 > id",
    '"id" < 7',
    "id > 3.5 and id < 7.5",
)


@pytest.mark.parametrize("where", CONDITIONS)
def test_rows_are_those_that_duckdb_gives(where, folder):
    expected = expected_ids(folder, where)
    if not expected:
        with pytest.raises(RowsError, match="where="):
            ids(folder, where)
    else:
        assert ids(folder, where) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_conditions_put_together_are_those_that_duckdb_gives(folder, data):
    def condition(depth):
        kind = data.draw(st.sampled_from(["one", "one", "and", "or", "not"] if depth else ["one"]))
        if kind == "one":
            return data.draw(st.sampled_from(CONDITIONS))
        if kind == "not":
            return f"not ({condition(depth - 1)})"
        return f"({condition(depth - 1)}) {kind} ({condition(depth - 1)})"

    where = condition(3)
    expected = expected_ids(folder, where)
    if expected:
        assert ids(folder, where) == expected
    else:
        with pytest.raises(RowsError):
            ids(folder, where)


def test_what_folders_and_bounds_rule_out_is_not_read(folder, monkeypatch):
    """Neither to count the rows that are meant, nor for these."""
    read, decoded = [], ParquetRows._decoded

    def seen(self, group, *options):
        read.append((group.path, group.index))
        return decoded(self, group, *options)

    monkeypatch.setattr(ParquetRows, "_decoded", seen)
    rows = open_rows(folder, columns=["x", "y"], where="year = 2026 and country = 'DE'")
    assert read == []  # the folders say how many rows there are
    list(rows.read(0, rows.n_rows))
    assert {path for path, _ in read} == {p for p, _ in read if "year=2026" in p and "country=DE" in p}
    read.clear()
    rows = open_rows(folder, columns=["x", "y"], where="id >= 3900 and country = 'DE'")
    all_groups = sum(pq.ParquetFile(f).metadata.num_row_groups for f in pads.dataset(folder, format="parquet").files)
    assert 0 < len(read) < all_groups / 6
    opened = []
    original = pads.ParquetFileFormat.make_fragment
    assert original is not None
    monkeypatch.setattr(pq.ParquetFile, "__init__", lambda *a, **k: opened.append(a))
    with pytest.raises(RowsError, match=r"true of none of the 6 file\(s\), by their folders"):
        open_rows(folder, columns=["x"], where="year = 1999")
    assert opened == []


def test_a_fit_is_that_of_the_rows_that_are_meant(folder, table, tmp_path):
    where = "country = 'DE' and holes < 1"
    features = ["x", "y"]
    rows = pads.dataset(folder, partitioning="hive").to_table(
        filter=(pads.field("country") == "DE") & (pads.field("holes") < 1)
    )
    pq.write_table(rows.select(["id", *features]), tmp_path / "rows.parquet")
    options = {"n_components": 2, "random_state": 0, "init_params": "kmeans"}
    one = GaussianMixture(**options).fit(folder, columns=features, where=where)
    other = GaussianMixture(**options).fit(str(tmp_path / "rows.parquet"), columns=features)
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-9, atol=1e-12)
    assert one.score(folder, where=where) == pytest.approx(other.score(tmp_path / "rows.parquet"), rel=1e-12)
    assert one.bic(folder, where=where) == pytest.approx(other.bic(tmp_path / "rows.parquet"), rel=1e-12)
    np.testing.assert_array_equal(one.predict(folder, where=where), one.predict(tmp_path / "rows.parquet"))
    assert one.training_summary_.n_rows == rows.num_rows
    found = write_predictions(one, folder, tmp_path / "o.parquet", keep=["id", "country"], where=where)
    assert found.n_rows == rows.num_rows
    scored = pads.dataset(tmp_path / "o.parquet").to_table()
    assert sorted(scored["id"].to_pylist()) == sorted(rows["id"].to_pylist())
    assert set(scored["country"].to_pylist()) == {"DE"}
    best = search(folder, [1, 2], columns=features, where=where, random_state=0, init_params="kmeans").best
    assert best.training_summary_.n_rows == rows.num_rows


def test_weights_and_sampling_go_by_the_rows_that_are_meant(folder):
    where = "small > 50"
    rows = open_rows(folder, columns=["id", "x"], sample_weight="year", where=where)
    ordered = [block for number in range(rows.n_tasks) for block in rows.blocks(number)]
    x, weight = (np.concatenate(parts) for parts in zip(*((b.x, b.sample_weight) for b in ordered), strict=True))
    assert set(weight) == {2025.0, 2026.0}
    for start, stop in ((0, 1), (17, 40), (rows.n_rows - 3, rows.n_rows)):
        part = np.concatenate([block.x for block in rows.read(start, stop)])
        np.testing.assert_array_equal(part, x[start:stop])


def test_the_condition_is_a_part_of_what_a_checkpoint_is_for(folder, tmp_path):
    options = {"n_components": 2, "random_state": 0, "init_params": "kmeans", "checkpoint": tmp_path / "c"}

    class StopError(Exception):
        pass

    def stop(_):
        raise StopError

    with pytest.raises(StopError):
        GaussianMixture(**options, callback=stop).fit(folder, columns=["x", "y"], where="year = 2025")
    with pytest.raises(CheckpointError, match="content"):
        GaussianMixture(**options, resume="must").fit(folder, columns=["x", "y"], where="year = 2025 and id >= 0")
    GaussianMixture(**options, resume="must").fit(folder, columns=["x", "y"], where="year = 2025")


def test_types_that_differ_among_files(tmp_path):
    """Bounds of a file whose column has another type are not relied upon; texts and numbers don't go together."""
    for number, values in enumerate(([1, 2, 3], [2.5, 3.5, None], [300, 400, 2])):
        kind = (pa.int8(), pa.float64(), pa.int32())[number]
        pq.write_table(pa.table({"v": pa.array(values, kind), "x": [1.0, 2.0, 3.0]}), tmp_path / f"{number}.parquet")
    rows = open_rows(str(tmp_path), columns=["v"], where="v > 2.25")
    assert [value for block in rows.read(0, rows.n_rows) for value in block.x[:, 0]] == [3, 2.5, 3.5, 300, 400]
    pq.write_table(pa.table({"v": ["a"], "x": [1.0]}), tmp_path / "3.parquet")
    with pytest.raises(RowsError, match=r"column 'v' has type string in .*3\.parquet"):
        open_rows(str(tmp_path), columns=["x"], where="v > 2.25")


def test_time_zones(tmp_path):
    hours = pd.date_range("2026-06-01", periods=5, freq="h", tz="UTC")
    frame = pd.DataFrame({"x": range(5), "utc": hours, "local": hours.tz_convert("Europe/Berlin")})
    frame.to_parquet(tmp_path / "t.parquet")

    def found(where):
        rows = open_rows(str(tmp_path / "t.parquet"), columns=["x"], where=where)
        return [int(v) for block in rows.read(0, rows.n_rows) for v in block.x[:, 0]]

    assert found("utc >= '2026-06-01 03:00'") == [3, 4]
    assert found("local >= '2026-06-01 03:00'") == [1, 2, 3, 4]  # two hours ahead, and the zone of the column is meant
    assert found("local >= '2026-06-01 03:00+00:00'") == [3, 4]
    assert found("utc = local") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "point", ["9999-12-31", "1600-01-01", "1970-01-01 00:00:02", "1970-01-01 00:00:01.5", "1970-01-01 00:00:00.0000015"]
)
def test_times_that_a_column_cannot_hold_are_compared_exactly(unit, point, tmp_path):
    """Beyond its years, or between two of its units: as whole numbers are, which Python's compare exactly."""
    counts = [-1, 0, 1, 2, 3, 1500, 1501, 2 * 10**9]
    column = pa.array(counts, pa.int64()).cast(pa.timestamp(unit))
    pq.write_table(pa.table({"x": counts, "t": column}), tmp_path / "t.parquet")
    length = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[unit]
    meant = datetime.datetime.fromisoformat(f"{point}0" if "." in point else point) - datetime.datetime(1970, 1, 1)
    nanoseconds = meant // datetime.timedelta(microseconds=1) * 1000
    if point.endswith("0000015"):
        nanoseconds = 1500
    for sign, holds in (("<", int.__lt__), ("<=", int.__le__), (">", int.__gt__), (">=", int.__ge__), ("=", int.__eq__),
                        ("<>", int.__ne__)):  # fmt: skip
        expected = [count for count in counts if holds(count * length, nanoseconds)]
        where = f"t {sign} '{point}'"
        if not expected:
            with pytest.raises(RowsError, match="has no rows for which"):
                open_rows(str(tmp_path), columns=["x"], where=where)
            continue
        rows = open_rows(str(tmp_path), columns=["x"], where=where)
        assert [int(value) for block in rows.read(0, rows.n_rows) for value in block.x[:, 0]] == expected, where


WRONG = (
    ("", "is empty"),
    ("   ", "is empty"),
    ("nothing = 1", "no column 'nothing'; it has 'id'"),
    ("x = 'a'", r"column 'x' \(double\) with 'a'"),
    ("city = 3", "single quotes"),
    ("day = 3", "'2026-01-31'"),
    ("day = '2026-02-30'", "don't compare"),
    ("seen >= 'yesterday'", "point in time"),
    ("seen >= '2026-01-01T00:00Z'", "don't compare"),
    ("active = 1", "don't compare"),
    ("id = true", "don't compare"),
    ("x", "true or false"),
    ("x = y = 3", "has|compares"),
    ("city > x", "don't compare"),
    ("id = large", "don't compare"),
    ("city = null", "is null"),
    ("id + 1 = 2", "Add"),
    ("lower(city) = 'a'", "Lower|Anonymous"),
    ("id in (select id from x)", "In"),
    ("select 1", "Select"),
    ("id = 1; drop table x", "several statements"),
    ("id = 1 -- and more", "comment"),
    ("id = 1 /* more */", "comment"),
    ("1 = 1", "names no column"),
    ("a.b = 1", "double quotes"),
    ("id = 'unclosed", "can't be read"),
    ("(((", "can't be read"),
    ("id = 1)", "can't be read"),
    ("id ~ 3", "can't be read"),
    ("id between symmetric 3 and 1", "Between|names no column"),
    ("city like 'a!%' escape '!'", "Escape"),
    ("id = any (1)", "Any|can't be read|has"),
    ("id is distinct from 3", "NullSafe|has"),
    ("id in ()", "empty list|can't be read"),
    ("id is true", "is null"),
    ("x like 'a%'", "like compares texts"),
    ("not", "can't be read"),
    ("id = 1 or", "can't be read"),
    ("\0", "no column|can't be read|empty"),
    ("(" * 3000 + "id = 1" + ")" * 3000, "nested too deeply|can't be read"),
    ("id = 1" + " or id = 1" * 1500, "nested too deeply"),
    ("x" * 30_000, "30000 characters"),
    (3, "must be a text"),
)


@pytest.mark.parametrize(("where", "match"), WRONG, ids=[repr(where)[:40] for where, _ in WRONG])
def test_mistakes_are_named(where, match, folder):
    with pytest.raises(RowsError, match=match) as caught:
        open_rows(folder, columns=["x", "y"], where=where)
    assert len(str(caught.value)) < 900


WORDS = [*"()',=<>.;\"%x1- ", "id", "and", "or", "not", "in", "is", "null", "'a'", "between", "like", "2", "city"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join))
def test_any_text_is_a_condition_or_an_error_that_says_so(text):
    schema = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("city", pa.string())])
    with suppress(RowsError):
        where = RowFilter.of(text)
        if set(where.names) <= set(schema.names):
            schema.empty_table().filter(where.bind(schema))


def test_a_long_list_is_no_deep_one(folder):
    assert ids(folder, f"id in ({', '.join(map(str, range(0, 4000, 2)))})") == list(range(0, 4000, 2))


@pytest.mark.parametrize("make", [lambda x, _: x, lambda x, _: pd.DataFrame(x), lambda x, p: str(p / "x.npy")])
def test_only_parquet_can_be_filtered(make, x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(RowsError, match="where= is for Parquet files"):
        GaussianMixture().fit(make(x, tmp_path), where="id = 1")


def test_commands_take_a_condition(folder, tmp_path):
    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exit_code == code, result.output
        return result.output

    where = ("--where", "country = 'DE' and id < 2000")
    n = len(ids(folder, where[1]))
    model = tmp_path / "m"
    columns = ("--columns", "x,y")
    run("fit", folder, "--components", 2, *columns, *where, "--output", model, "--quiet")
    assert load(model).training_summary_.n_rows == n
    assert f"{n} rows" in run("predict", model, folder, *where, "--output", tmp_path / "o.parquet", "--keep", "id")
    score = float(run("score", model, folder, *where))
    assert score == pytest.approx(load(model).score(folder, where=where[1]), abs=1e-8)
    assert "best" in run("select", folder, "--components", "1,2", *columns, *where, "--quiet")
    output = run("fit", folder, "--components", 2, "--where", "nothing = 1", "--output", tmp_path / "n", code=65)
    assert "no column 'nothing'" in output
    assert not (tmp_path / "n").exists()


def test_files_that_are_left_out_take_no_memory(tmp_path):
    """Not even their footers are kept: a table of years of days, of which one day is meant."""
    one = pa.table({"x": np.arange(10.0)})
    for number in range(300):
        place = tmp_path / "in" / f"day=2026-{number:03d}"
        place.mkdir(parents=True)
        pq.write_table(one, place / "0.parquet")
    tracemalloc.start()
    rows = open_rows(str(tmp_path / "in"), columns=["x"], where="day = '2026-007'")
    tracemalloc.stop()
    assert rows.n_rows == 10
    assert len(rows._groups) == 1


def test_a_column_that_only_some_files_have_is_missing_in_the_others(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "x": [1.0, 2.0], "c": ["DE", "FR"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"id": [3, 4], "x": [3.0, 4.0]}), tmp_path / "1.parquet")
    for where, expected in (("c = 'DE'", [1]), ("c is null", [3, 4]), ("c = 'DE' or id = 4", [1, 4])):
        with pytest.warns(match="no column 'c'"):
            assert ids(str(tmp_path), where) == expected


def test_keys_of_folders_that_some_files_have_as_a_column(tmp_path):
    for day, columns in ((1, {"id": [1, 2], "d": [1, 1]}), (2, {"id": [3, 4]})):
        (tmp_path / f"d={day}").mkdir()
        pq.write_table(pa.table(columns), tmp_path / f"d={day}" / "0.parquet")
    assert ids(str(tmp_path), "d = 2") == [3, 4]
    assert ids(str(tmp_path), "d < 3 and id > 1") == [2, 3, 4]


def test_points_in_time_of_nanoseconds_and_fixed_zones(tmp_path):
    at = np.array(["2026-01-01T00:00:00.123456789", "2026-01-01T00:00:00.123456000"], dtype="datetime64[ns]")
    zoned = pa.array(at.astype("datetime64[us]")).cast(pa.timestamp("us", tz="+02:00"))
    pq.write_table(pa.table({"id": [0, 1], "ns": at, "zoned": zoned}), tmp_path / "0.parquet")
    source = str(tmp_path / "0.parquet")
    assert ids(source, "ns = '2026-01-01 00:00:00.123456789'") == [0]
    assert ids(source, "ns > '2026-01-01 00:00:00.123456'") == [0]
    assert ids(source, "zoned >= '2026-01-01 02:00'") == [0, 1]
