"""Files of a folder are there whole or not at all; requests that fail are made again."""

import uuid
from typing import ClassVar
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from streamgmm import GaussianMixture, load, save
from streamgmm.exceptions import InputError
from streamgmm.predict.write import write_predictions
from streamgmm.storage.folders import Folder
from streamgmm.storage.urls import build_url, check_url, open_url


def test_of_several_that_take_over_one_succeeds(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write("a", b"dead")
    assert not folder.remove_if("a", b"another")
    assert folder.read("a") == b"dead"
    assert folder.remove_if("a", b"dead")
    assert not folder.remove_if("a", b"dead")
    assert folder.names() == []


def test_a_file_is_whole_or_as_it_was(monkeypatch, tmp_path):
    folder = Folder(str(tmp_path / "new"))
    folder.write("a", b"one")

    def fail(_):
        raise OSError("no space left")

    monkeypatch.setattr("streamgmm.storage.folders.os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        folder.write("a", b"two")
    assert folder.read("a") == b"one"
    assert folder.names() == ["a"]


def test_requests_are_repeated(monkeypatch):
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    folder.write("a", b"one")
    filesystem = folder._place[0]
    calls = []

    def flaky(_, path):
        calls.append(path)
        if len(calls) < 3:
            raise TimeoutError
        return b"one"

    monkeypatch.setattr("streamgmm.storage.retries.time.sleep", lambda _: None)
    # Of the class: what is put back to an object would be its own from then on.
    monkeypatch.setattr(type(filesystem), "cat_file", flaky)
    assert folder.read("a") == b"one"
    assert len(calls) == 3
    with pytest.raises(FileExistsError):
        folder.create("a", b"two")


def test_a_file_in_the_place_of_the_folder_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        for write in (Folder(str(path)).write, Folder(str(path)).create):
            with pytest.raises(InputError, match="is a file"):
                write("a", b"one")
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ann:hunter2@host/rows",
        "simplecache::sftp://ann:hunter2@host:22/rows",
        "s3://KEY:hunter2/2@bucket/rows",
        "ftp://ann:hunter2::2@host/rows",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url, x):
    """It would be in graphs, errors, logs and checkpoints."""
    model = GaussianMixture(2).fit(x)
    for use in (
        lambda: GaussianMixture(2).fit(url),
        lambda: GaussianMixture(2, checkpoint=url).fit(x),
        lambda: save(model, url),
        lambda: load(url),
        lambda: write_predictions(model, x, url),
    ):
        with pytest.raises(InputError, match=r"FSSPEC_(S?FTP|S3)_") as caught:
            use()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ann@host:21/a:b@c",
        "ftp://host:21/a@b",
        "s3://bucket/a:b@c",
        "s3://arn:aws:s3:eu-west-1:123:accesspoint/a/b@c",
        "ftp://[::1]:21/a@b",
        "github://org:repo@main/rows.parquet",
        "file://C:\\Users\\ann@lab\\rows.npy",
        "/local/a:b@c",
        "C:\\a@b",
        "memory://a",
    ],
)
def test_urls_without_a_password_are_taken(url):
    check_url(url)


class HostFileSystem(MemoryFileSystem):
    """Names its places without the host, as those of FTP and SFTP do, and is nothing without it."""

    protocol = "host"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    def __init__(self, host, **options):
        assert host
        super().__init__(host=host, **options)

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol("/" + urlsplit(path).path.strip("/"))

    @staticmethod
    def _get_kwargs_from_urls(path):
        return {"host": urlsplit(path).hostname} if "://" in path else {}


@pytest.mark.parametrize("what", ["rows", "rows/", "rows/0.parquet", "rows/*.parquet"])
def test_a_host_is_not_lost_on_the_way_to_the_files(what, x):
    fsspec.register_implementation("host", HostFileSystem, clobber=True)
    HostFileSystem.store.clear()
    x = x[:300]
    filesystem, _ = open_url("host://there/rows")
    with filesystem.open("/rows/0.parquet", "wb") as file:
        pq.write_table(pa.table(dict(zip("abc", x.T, strict=True))), file)
    model = GaussianMixture(2, random_state=0).fit(f"host://there/{what}")
    expected = GaussianMixture(2, random_state=0).fit(x)
    np.testing.assert_array_equal(model.means_, expected.means_)
    write_predictions(model, f"host://there/{what}", "host://there/labels.parquet")
    labels = pq.read_table("/labels.parquet", filesystem=filesystem).column("label").to_numpy()
    np.testing.assert_array_equal(labels, expected.predict(x))


@pytest.mark.parametrize(
    ("opened", "root", "place", "url"),
    [
        ("s3://bucket/rows", "bucket/rows", "bucket/rows/0.parquet", "s3://bucket/rows/0.parquet"),
        ("s3://bucket/rows/", "bucket/rows", "bucket/rows/0.parquet", "s3://bucket/rows/0.parquet"),
        ("s3://bucket/*.parquet", "bucket/*.parquet", "bucket/0.parquet", "s3://bucket/0.parquet"),
        ("sftp://ann@host:22/rows", "/rows", "/rows/b/0.parquet", "sftp://ann@host:22/rows/b/0.parquet"),
        ("ftp://host", "", "/0.parquet", "ftp://host/0.parquet"),
        ("abfs://c@account.dfs.net/rows", "c/rows", "c/rows/0.parquet", "abfs://c@account.dfs.net/rows/0.parquet"),
        ("abfs://c@account.dfs.net", "c", "c/0.parquet", "abfs://c@account.dfs.net/0.parquet"),
        ("github://org:repo@main/rows", "rows", "rows/0.parquet", "github://org:repo@main/rows/0.parquet"),
        ("https://host/rows.parquet", "https://host/rows.parquet", "https://host/rows.parquet", "https://host/rows.parquet"),
        ("memory://", "", "/0.parquet", "memory:///0.parquet"),
        ("memory://rows", "/rows", "/rows/0.parquet", "memory://rows/0.parquet"),
        ("filecache::s3://bucket/rows", "bucket/rows", "bucket/rows/0", "filecache::s3://bucket/rows/0"),
        ("zip://*.parquet::s3://bucket/a.zip", "*.parquet", "0.parquet", "zip://0.parquet::s3://bucket/a.zip"),
        ("/data/rows", "/data/rows", "/data/rows/0.parquet", "/data/rows/0.parquet"),
        ("file:///data/rows", "/data/rows", "/data/rows/0.parquet", "file:///data/rows/0.parquet"),
    ],
)  # fmt: skip
def test_urls_of_places(opened, root, place, url):
    assert build_url(place, opened, root) == url
