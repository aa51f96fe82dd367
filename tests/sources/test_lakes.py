"""Tables of lakes are read as their own libraries read them, at one version; what files alone don't tell is refused."""

import datetime
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.transforms import IdentityTransform
from pyiceberg.utils.config import Config

from streamgmm import GaussianMixture, load, save, write_predictions
from streamgmm.cli.main import main
from streamgmm.exceptions import CheckpointError, InputError, ReadError, RowsError
from streamgmm.sources.open import open_rows

pytestmark = pytest.mark.filterwarnings("ignore:Delete operation did not match", "ignore::DeprecationWarning:pyiceberg")


def rows_of(n, start=0):
    rng = np.random.default_rng(start)
    day = [datetime.date(2026, 1, 1) + datetime.timedelta(days=int(i) // 50) for i in range(start, start + n)]
    return pa.table(
        {
            "id": pa.array(np.arange(start, start + n)),
            "x": rng.normal(size=n) + 5 * (np.arange(n) % 2),
            "y": rng.normal(size=n),
            "year": pa.array(2020 + np.arange(start, start + n) // 100),
            "place": pa.array([("p q", "a/b=c", "50%", None, "é")[i % 5] for i in range(start, start + n)]),
            "day": pa.array(day),
        }
    )


def as_tuples(x):
    return sorted(map(tuple, np.asarray(x).tolist()))


def read(source, columns, **options):
    rows = open_rows(source, columns=columns, **options)
    return np.concatenate([block.x for block in rows.read(0, rows.n_rows)])


@pytest.fixture(params=["table", "with a blank"])
def delta(request, tmp_path):
    """A table with four versions: written, rows deleted, others changed, more appended with a new column."""
    path = str(tmp_path / request.param)
    write_deltalake(path, rows_of(200), partition_by=["place", "year"])
    DeltaTable(path).delete("id >= 20 and id < 45")
    DeltaTable(path).update(updates={"x": "x + 100"}, predicate="id % 7 = 3")
    more = rows_of(60, 200).append_column("z", pa.array(np.arange(60.0)))
    write_deltalake(path, more, mode="append", schema_mode="merge")
    return path


def test_each_version_of_a_delta_table_is_what_the_library_gives(delta, tmp_path):
    options = {"n_components": 2, "random_state": 0, "init_params": "kmeans"}
    for version in range(4):
        table = DeltaTable(delta, version=version).to_pyarrow_table()
        columns = ["id", "x", "y", "year"]
        expected = table.select(columns).to_pandas()
        for source in (f"delta:{delta}@{version}", DeltaTable(delta, version=version)):
            np.testing.assert_array_equal(read(source, columns), expected.to_numpy())
        pq.write_table(table.select(["x", "y"]), tmp_path / f"{version}.parquet")
        fitted = GaussianMixture(**options).fit(f"delta:{delta}@{version}", columns=["x", "y"])
        other = GaussianMixture(**options).fit(str(tmp_path / f"{version}.parquet"), columns=["x", "y"])
        np.testing.assert_allclose(fitted.means_, other.means_, rtol=1e-9)
        assert fitted.training_summary_.n_rows == table.num_rows
        save(fitted, tmp_path / "m", overwrite=True)
        kept = load(tmp_path / "m").training_summary_.table
        assert kept == f"Delta Lake table {DeltaTable(delta).metadata().id}, version {version}"
        assert str(tmp_path) not in kept
    np.testing.assert_array_equal(read(f"delta:{delta}", ["id"]), read(f"delta:{delta}@3", ["id"]))


def test_all_columns_of_a_table_are_its_own(delta, tmp_path):
    """Partition columns too; one that was added later is missing in older files."""
    write_predictions(
        GaussianMixture(1, random_state=0).fit(f"delta:{delta}@0", columns=["x", "y"]),
        f"delta:{delta}@0", tmp_path / "o.parquet", keep="all",
    )  # fmt: skip
    scored = pq.read_table(tmp_path / "o.parquet").sort_by("id")
    table = DeltaTable(delta, version=0).to_pyarrow_table().sort_by("id")
    assert scored.drop_columns(["label"]).select(table.column_names).to_pylist() == table.to_pylist()
    assert scored.schema.field("day").type == pa.date32()
    with pytest.raises(RowsError, match=r"'place' of .* is text"):
        open_rows(f"delta:{delta}@0")
    numeric = f"{delta}-numeric"
    write_deltalake(numeric, rows_of(50).select(["id", "x", "year"]), partition_by=["year"])
    assert open_rows(f"delta:{numeric}").feature_names == ("id", "x", "year")
    with pytest.warns(match="no column 'z'"):
        found = read(f"delta:{delta}", ["id", "z"])
    table = DeltaTable(delta).to_pyarrow_table().select(["id", "z"]).to_pandas()
    np.testing.assert_array_equal(found, table.to_numpy())


@pytest.mark.parametrize(
    "where",
    ["place = 'a/b=c'", "place is null", "year >= 2021 and id < 150", "day < '2026-01-02'", "year = 2020 and y > 0"],
)
def test_conditions_on_a_delta_table(where, delta):
    import duckdb

    given = DeltaTable(delta, version=2).to_pyarrow_table()
    expected = duckdb.sql(f"select id, x, y from given where {where}").df()
    assert given.num_rows == 175
    assert as_tuples(read(f"delta:{delta}@2", ["id", "x", "y"], where=where)) == as_tuples(expected)


def test_a_checkpoint_is_of_one_version(delta, tmp_path):
    options = {"n_components": 2, "random_state": 0, "init_params": "kmeans", "checkpoint": tmp_path / "c"}

    class StopError(Exception):
        pass

    def stop(_):
        raise StopError

    with pytest.raises(StopError):
        GaussianMixture(**options, callback=stop).fit(f"delta:{delta}@2", columns=["x", "y"])
    with pytest.raises(CheckpointError, match=r"table .*version 2.*version 3"):
        GaussianMixture(**options).fit(f"delta:{delta}", columns=["x", "y"])
    GaussianMixture(**options, resume="must").fit(DeltaTable(delta, version=2), columns=["x", "y"])


def edit_log(path, version, change):
    """Change the entries of one version of a table's log."""
    import pathlib

    log = pathlib.Path(path) / "_delta_log" / f"{version:020d}.json"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    for entry in entries:
        change(entry)
    log.write_text("\n".join(map(json.dumps, entries)))


def test_what_the_files_of_a_delta_table_do_not_tell_is_refused(tmp_path):
    path = str(tmp_path / "t")
    write_deltalake(path, rows_of(10).select(["id", "x"]))

    def features(entry):
        if "protocol" in entry:
            entry["protocol"] = {
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"],
            }  # fmt: skip

    edit_log(path, 0, features)
    assert len(read(f"delta:{path}", ["x"])) == 10  # the table may have some, and has none

    def vector(entry):
        if "add" in entry:
            entry["add"]["deletionVector"] = {
                "storageType": "i", "pathOrInlineDv": INLINE, "sizeInBytes": 44, "cardinality": 6,
            }  # fmt: skip

    edit_log(path, 0, vector)
    with pytest.raises(RowsError, match="deletion vectors"):
        open_rows(f"delta:{path}", columns=["x"])
    mapped = str(tmp_path / "mapped")
    write_deltalake(mapped, rows_of(10).select(["id", "x"]))

    def mapping(entry):
        if "metaData" in entry:
            entry["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}

    edit_log(mapped, 0, mapping)
    with pytest.raises(RowsError, match="mapping"):
        open_rows(f"delta:{mapped}", columns=["x"])


#: A vector as it may stand in the log; that it does is what counts.
INLINE = "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("delta:", "names no table"),
        ("delta:{}/none", "none"),
        ("delta:{}/t@99", "99"),
        ("delta:{}/t@new", "expected a number"),
        ("iceberg:", "names no table"),
        ("iceberg:nothing", "names no table"),
        ("iceberg:nothing.ns.t", "nothing"),
        ("iceberg:mine.ns.none", "none"),
        ("iceberg:mine.ns.t@7", "no snapshot '7'"),
    ],
)
def test_mistakes_are_named(name, match, catalog, tmp_path):
    write_deltalake(tmp_path / "t", rows_of(3))
    catalog.create_table("ns.t", schema=rows_of(1).schema).append(rows_of(3))
    with pytest.raises(InputError, match=match) as caught:
        open_rows(name.format(tmp_path), columns=["x"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "package"), [("delta:x", "deltalake"), ("iceberg:a.b", "pyiceberg.catalog")])
def test_what_is_not_installed_is_named(source, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"pip install 'streamgmm\[{source.partition(':')[0]}\]'"):
        open_rows(source)


def test_nothing_is_written_into_a_table_that_is_read(delta, x):
    model = GaussianMixture(1, random_state=0).fit(f"delta:{delta}@1", columns=["x", "y"])
    for source in (f"delta:{delta}@1", f"delta:{delta}", DeltaTable(delta)):
        with pytest.raises(InputError, match="lies inside"):
            write_predictions(model, source, f"{delta}/scored.parquet")
    with pytest.raises(RowsError, match="Give the table, delta:PATH"):
        open_rows(delta, columns=["x"])


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("PYICEBERG_CATALOG__MINE__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__MINE__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__MINE__WAREHOUSE", f"file://{tmp_path}/warehouse")
    monkeypatch.setenv("PYICEBERG_HOME", str(tmp_path))
    # pyiceberg reads the environment when it is imported.
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    catalog = load_catalog(
        "mine", type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    catalog.create_namespace("ns")
    yield catalog
    catalog.close()


def test_each_snapshot_of_an_iceberg_table_is_what_the_library_gives(catalog, tmp_path):
    table = catalog.create_table("ns.t", schema=rows_of(1).schema)
    table.append(rows_of(200))
    table.append(rows_of(60, 200))
    table.delete("id >= 20 and id < 45")
    options = {"n_components": 2, "random_state": 0, "init_params": "kmeans"}
    columns = ["id", "x", "y", "year"]
    for number, snapshot in enumerate(table.snapshots()):
        expected = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
        name = f"iceberg:mine.ns.t@{snapshot.snapshot_id}"
        np.testing.assert_array_equal(read(name, columns), expected.select(columns).to_pandas().to_numpy())
        pq.write_table(expected.select(["x", "y"]), tmp_path / f"{number}.parquet")
        fitted = GaussianMixture(**options).fit(name, columns=["x", "y"])
        other = GaussianMixture(**options).fit(str(tmp_path / f"{number}.parquet"), columns=["x", "y"])
        np.testing.assert_allclose(fitted.means_, other.means_, rtol=1e-9)
        assert fitted.training_summary_.table.endswith(f"snapshot {snapshot.snapshot_id}")
    np.testing.assert_array_equal(read("iceberg:mine.ns.t", columns), read(table, columns))
    assert len(read("iceberg:mine.ns.t", ["id"], where="day < '2026-01-02'")) == 20 + 5


def test_partitions_of_an_iceberg_table(catalog):
    schema = catalog.create_table("ns.s", schema=rows_of(1).schema).schema()
    ids = {one.name: one.field_id for one in schema.fields}
    spec = PartitionSpec(
        PartitionField(ids["year"], 1000, IdentityTransform(), "year"),
        PartitionField(ids["day"], 1001, IdentityTransform(), "day"),
    )
    table = catalog.create_table("ns.p", schema=schema, partition_spec=spec)
    table.append(rows_of(300))
    for where, expected in (
        ("year = 2021", pc.field("year") == 2021),
        ("day >= '2026-01-03' and id < 150", (pc.field("day") >= datetime.date(2026, 1, 3)) & (pc.field("id") < 150)),
    ):
        found = read("iceberg:mine.ns.p", ["id", "x", "year"], where=where)
        assert as_tuples(found) == as_tuples(rows_of(300).filter(expected).select(["id", "x", "year"]).to_pandas())


def test_columns_that_were_renamed_or_replaced_are_refused(catalog):
    """By their names, the values of another column would be read."""
    table = catalog.create_table("ns.t", schema=rows_of(1).select(["id", "x", "y"]).schema)
    table.append(rows_of(20).select(["id", "x", "y"]))
    before = table.current_snapshot().snapshot_id
    with table.update_schema() as update:
        update.rename_column("x", "width")
    with pytest.raises(RowsError, match=r"'width' is called 'x' there"):
        open_rows("iceberg:mine.ns.t", columns=["width"])
    assert len(read("iceberg:mine.ns.t", ["id", "y"])) == 20
    assert len(read(f"iceberg:mine.ns.t@{before}", ["x"])) == 20
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("y")
    with table.update_schema() as update:
        from pyiceberg.types import DoubleType

        update.add_column("y", DoubleType())
    with pytest.raises(RowsError, match=r"'y' .* another column was called 'y' then"):
        open_rows("iceberg:mine.ns.t", columns=["y"])


def test_parts_of_columns_that_were_renamed_or_replaced_are_refused(catalog, tmp_path):
    """The library gives each part by its number; by their names two parts that were swapped would be confused."""
    inside = pa.array([{"a": i, "b": -i} for i in range(20)])
    rows = rows_of(20).select(["id", "x"]).append_column("pair", inside)
    table = catalog.create_table("ns.s", schema=rows.schema)
    table.append(rows)
    model = GaussianMixture(1, random_state=0).fit("iceberg:mine.ns.s", columns=["x"])
    write_predictions(model, "iceberg:mine.ns.s", tmp_path / "o.parquet", keep=["pair"])
    assert pq.read_table(tmp_path / "o.parquet")["pair"].to_pylist() == inside.to_pylist()
    for before, after in (("a", "tmp"), ("b", "a"), ("tmp", "b")):
        with table.update_schema() as update:
            update.rename_column(("pair", before), after)
    assert table.scan().to_arrow()["pair"].to_pylist()[3] == {"b": 3, "a": -3}
    with pytest.raises(RowsError, match=r"column 'pair' .* 'b' is called 'a' there"):
        write_predictions(model, "iceberg:mine.ns.s", tmp_path / "p.parquet", keep=["pair"])
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column(("pair", "a"))
    with table.update_schema() as update:
        from pyiceberg.types import LongType

        update.add_column(("pair", "a"), LongType())
    with pytest.raises(RowsError, match="column 'pair'"):
        write_predictions(model, "iceberg:mine.ns.s", tmp_path / "p.parquet", keep=["pair"])


def test_imported_files_have_the_names_that_the_table_knows(catalog, tmp_path):
    """They have no numbers: what they call a column that was renamed only the table's mapping tells."""
    pq.write_table(rows_of(30).select(["id", "x", "y"]), tmp_path / "f.parquet")
    table = catalog.create_table("ns.i", schema=rows_of(1).select(["id", "x", "y"]).schema)
    table.add_files([f"file://{tmp_path}/f.parquet"])
    assert len(read("iceberg:mine.ns.i", ["x", "y"])) == 30
    with table.update_schema() as update:
        update.rename_column("x", "width")
    assert table.scan().to_arrow()["width"].null_count == 0
    with pytest.raises(RowsError, match=r"column 'width' .* it is called 'x' there, as it was once"):
        open_rows("iceberg:mine.ns.i", columns=["width"])
    assert len(read("iceberg:mine.ns.i", ["id", "y"])) == 30


def test_places_with_percent_signs(catalog):
    from pyiceberg.transforms import IdentityTransform as Identity

    rows = pa.table({"x": np.arange(40.0), "s": pa.array([("k=v", "a/b", "50%", "ü ö")[i % 4] for i in range(40)])})
    table = catalog.create_table("ns.q", schema=rows.schema)
    with table.update_spec() as update:
        update.add_field("s", Identity(), "part_s")
    table.append(rows)
    assert any("%" in task.file.file_path for task in table.scan().plan_files())
    assert as_tuples(read("iceberg:mine.ns.q", ["x"])) == as_tuples(np.arange(40.0)[:, None])
    assert read("iceberg:mine.ns.q", ["x"], where="s = '50%'")[:, 0].tolist() == list(range(2, 40, 4))


def test_a_table_that_is_not_there_is_no_failure_of_the_store(tmp_path):
    with pytest.raises(RowsError, match="be opened") as caught:
        open_rows(f"delta:{tmp_path}/none")
    assert not isinstance(caught.value, ReadError)


def test_files_whose_rows_do_not_all_count_are_refused(catalog, monkeypatch):
    from pyiceberg import table as library

    table = catalog.create_table("ns.t", schema=rows_of(1).schema)
    table.append(rows_of(20))
    plan = library.DataScan.plan_files

    def with_deletes(self):
        return [library.FileScanTask(task.file, delete_files={task.file}) for task in plan(self)]

    monkeypatch.setattr(library.DataScan, "plan_files", with_deletes)
    with pytest.raises(RowsError, match="delete files"):
        open_rows("iceberg:mine.ns.t", columns=["x"])


def test_commands_take_tables(delta, tmp_path):
    def run(*arguments):
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    run("fit", f"delta:{delta}@1", "--components", 2, "--columns", "x,y", "--output", tmp_path / "m", "--quiet")
    assert "version 1" in run("info", tmp_path / "m", "--json")
    output = run(
        "predict", tmp_path / "m", f"delta:{delta}@3", "--output", tmp_path / "o.parquet", "--keep", "id,place"
    )
    assert f"{DeltaTable(delta).to_pyarrow_table().num_rows} rows" in output
