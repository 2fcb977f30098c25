import io

import pytest

from tunesmith.data.picture_set import Picture, PictureSet, PictureSetWriter
from tunesmith.spec.errors import DatasetError

PICTURE = Picture(file="0.png", source="cat.png", caption="a čat", width=2, height=3, sha256="0" * 64)


def written():
    file = io.BytesIO()
    with PictureSetWriter(file) as writer:
        writer.add("0.png", b"content")
        writer.finish([PICTURE])
    return file.getvalue()


def test_a_set_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(written())
    read = PictureSet(path)
    assert read.pictures == (PICTURE,)
    assert read.read(PICTURE) == b"content"
    read.close()


def test_equal_sets_are_equal_bytes():
    assert written() == written()


def test_a_set_that_is_broken_off_writes_nothing_later():
    file = io.BytesIO()
    with pytest.raises(InterruptedError), PictureSetWriter(file) as writer:
        writer.add("0.png", b"content")
        raise InterruptedError
    file.close()
    del writer  # an archive that is still open would write its list of files now


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"set\.zip is no set of prepared pictures"):
        PictureSet(path)
