"""A column that folders name and files have as well: both say the same, or there is an error, whatever it is for."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from streamgmm.exceptions import RowsError
from streamgmm.sources.open import open_rows


def write(folder, texts, values, kind):
    """Write a file of ten rows below each folder, whose column `key` has one value."""
    for text, value in zip(texts, values, strict=True):
        (folder / f"key={text}").mkdir(parents=True)
        columns = {"x": np.arange(10.0), "key": pa.array([value] * 10, kind)}
        pq.write_table(pa.table(columns), folder / f"key={text}" / "rows.parquet")
    return str(folder)


def kept(rows):
    return [value for block in rows.read(0, rows.n_rows) for value in block.kept.as_table()["key"].to_pylist()]


SAME = (
    (["2026-01-01", "2026-01-02"], ["2026-01-01", "2026-01-02"], pa.string()),
    (["01", "02"], ["01", "02"], pa.string()),
    (["01", "02"], ["01", "02"], pa.dictionary(pa.int8(), pa.string())),
    (["01", "02"], [1, 2], pa.int8()),
    (["1.5", "2.5"], [1.5, 2.5], pa.float64()),
    (["__HIVE_DEFAULT_PARTITION__", "2"], [None, 2], pa.int64()),
)


@pytest.mark.parametrize(("texts", "values", "kind"), SAME)
def test_where_both_say_the_same_the_columns_type_counts(texts, values, kind, tmp_path):
    folder = write(tmp_path / "in", texts, values, kind)
    found = kept(open_rows(folder, columns=["x"], keep=["key"]))
    assert sorted(found, key=str) == sorted(values * 10, key=str)
    quoted = f"'{values[1]}'" if isinstance(values[1], str) else values[1]
    rows = open_rows(folder, columns=["x"], keep=["key"], where=f"key = {quoted}")
    assert kept(rows) == [values[1]] * 10


CONTRADICTING = (
    (["2026-01-01", "2026-01-02"], ["2026-01-01", "2026-01-03"], pa.string(), "'2026-01-03'"),
    (["1", "2"], [1, 3], pa.int64(), "3"),
    (["1", "2"], [1, None], pa.int64(), "None"),
    (["1", "__HIVE_DEFAULT_PARTITION__"], [1, 3], pa.int64(), "3"),
)


@pytest.mark.parametrize(("texts", "values", "kind", "found"), CONTRADICTING)
def test_where_they_differ_the_file_is_named(texts, values, kind, found, tmp_path):
    folder = write(tmp_path / "in", texts, values, kind)
    said = f"key={texts[1]}/rows.parquet: column 'key' has the value {found} in the file"
    for options in ({"keep": ["key"]}, {"where": "key is null or key is not null"}):
        with pytest.raises(RowsError, match=said):
            kept(open_rows(folder, columns=["x"], **options))
    # Nor do bounds that exclude what the folder names leave it out without a word.
    if texts[1].startswith("2"):
        quoted = f"'{texts[1]}'" if isinstance(values[1], str) else texts[1]
        with pytest.raises(RowsError, match=said):
            open_rows(folder, columns=["x"], where=f"key = {quoted}")
    # A dataset that knows no keys has the column alone.
    files = sorted(pads.dataset(folder, format="parquet").files, key=lambda path: path.endswith(f"{texts[1]}/rows"))
    assert open_rows(pads.dataset(files), columns=["x"], where="key is null or key is not null").n_rows == 20


def test_a_folder_whose_name_the_column_cannot_hold(tmp_path):
    folder = write(tmp_path / "in", ["1", "300"], [1, 44], pa.int8())
    for options in ({"keep": ["key"]}, {"where": "key = 44"}):
        with pytest.raises(RowsError, match="named key=300, which can't be int8"):
            open_rows(folder, columns=["x"], **options)


def test_texts_with_a_sign_are_texts_as_arrow_has_it(tmp_path):
    for text in ("+5", "6"):
        (tmp_path / f"key={text}").mkdir()
        pq.write_table(pa.table({"x": [1.0]}), tmp_path / f"key={text}" / "rows.parquet")
    assert kept(open_rows(str(tmp_path), columns=["x"], keep=["key"])) == ["6", "+5"]
    expected = pads.dataset(str(tmp_path), partitioning="hive").to_table()["key"].to_pylist()
    assert sorted(expected) == ["+5", "6"]


def test_a_text_that_only_some_files_keep_in_a_dictionary(tmp_path):
    plain = pa.array(["a", "b", None])
    for number, column in enumerate((plain, plain.dictionary_encode(), plain.cast(pa.large_string()))):
        pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "key": column}), tmp_path / f"{number}.parquet")
    assert kept(open_rows(str(tmp_path), columns=["x"], keep=["key"])) == ["a", "b", None] * 3
    assert open_rows(str(tmp_path), columns=["x"], where="key = 'b'").n_rows == 3
