"""Files of a folder are there whole or not at all; requests that fail are made again."""

import uuid

import pytest

from streamgmm import GaussianMixture, load, save
from streamgmm.exceptions import InputError
from streamgmm.result_files import write_predictions
from streamgmm.storage import Folder, check_url


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

    monkeypatch.setattr("streamgmm.storage.os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        folder.write("a", b"two")
    assert folder.read("a") == b"one"
    assert folder.names() == ["a"]


def test_requests_are_repeated(monkeypatch):
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    folder.write("a", b"one")
    filesystem = folder._place[0]
    calls = []

    def flaky(path):
        calls.append(path)
        if len(calls) < 3:
            raise TimeoutError
        return b"one"

    monkeypatch.setattr("streamgmm.retries.time.sleep", lambda _: None)
    monkeypatch.setattr(filesystem, "cat_file", flaky)
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
