"""Every kind of file gives the same rows; faults are named with member and line; archives cannot do harm."""

import csv
import gzip
import io
import json
import stat
import tracemalloc
import zipfile
from contextlib import suppress

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tunesmith.data import archives
from tunesmith.data.rows import read_examples, read_rows
from tunesmith.data.validate import inspect
from tunesmith.spec.errors import DatasetError

ROWS = [{"prompt": "Where, then?", "completion": " Here;\n\tthere | é"}, {"prompt": "2", "completion": "x"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def as_csv(rows, delimiter=","):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows, **options):
    target = io.BytesIO()
    table = pyarrow.Table.from_pylist(rows) if isinstance(rows, list) else rows
    parquet.write_table(table, target, **options)
    return target.getvalue()


def as_zip(members, compression=zipfile.ZIP_DEFLATED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "anything.jsonl"
        path.write_bytes(content)
        return path

    return write


CONTAINERS = {
    "jsonl": LINES,
    "json": json.dumps(ROWS, indent=2).encode(),
    "csv": as_csv(ROWS),
    "parquet": as_parquet(ROWS),
    "jsonl in zip": as_zip([("rows.jsonl", LINES)]),
    "json in zip": as_zip([("data/rows", json.dumps(ROWS))]),
    "csv in zip": as_zip([("rows.csv", as_csv(ROWS))]),
    "parquet in zip": as_zip([("rows.bin", as_parquet(ROWS))]),
    "jsonl in gzip": gzip.compress(LINES),
    "csv in gzip": gzip.compress(as_csv(ROWS)),
}


@pytest.mark.parametrize(("name", "content"), CONTAINERS.items(), ids=CONTAINERS)
def test_the_kind_of_file_is_seen_by_its_content_and_changes_no_example(file, name, content):
    path = file(content)
    assert [(each.prompt, each.completion) for each in read_examples(path)] == [tuple(row.values()) for row in ROWS]
    report = inspect(path)
    assert (report.container, report.rows, report.columns) == (name, 2, {"prompt": 2, "completion": 2})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(file, delimiter):
    content = b"\xef\xbb\xbf" + as_csv(ROWS, delimiter)
    assert [row for _, _, row in read_rows(file(content))] == ROWS


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=30).filter(
    lambda text: text.strip()
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_any_texts_are_the_same_examples_in_every_kind_of_file(tmp_path_factory, pairs):
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    contents = [
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        json.dumps(rows).encode(),
        as_csv(rows),
        as_parquet(rows),
    ]
    folder = tmp_path_factory.mktemp("rows")
    for content in contents:
        path = folder / "rows"
        path.write_bytes(content)
        assert [(each.prompt, each.completion) for each in read_examples(path)] == pairs


@pytest.mark.parametrize("name", ["PAR1", "BMI", "Rare"])
def test_a_column_may_be_named_like_the_magic_of_a_kind_of_file(file, name):
    assert [row for _, _, row in read_rows(file(f"{name},text\na,b\n".encode()))] == [{name: "a", "text": "b"}]


def test_lines_of_a_table_are_true_behind_fields_of_several_lines(file):
    content = b'prompt,completion\r\n"a\r\nb",c\r\n\r\nd,\r\ne,f\r\n'
    assert [line for _, line, _ in read_rows(file(content))] == [2, 5, 6]
    [problem] = inspect(file(b"\n\r\n" + content)).problems
    assert (problem.line, problem.field) == (7, "completion")


@pytest.mark.parametrize(
    "row",
    [
        rb'{"text": "a", "text": "b"}',
        rb'{"text" : "a", "text": "b"}',
        rb'{"text": "\u0022:", "n": 1, "n": 2}',
        rb'{"text": "\"\u003a", "n": 1, "n": 2}',
        rb'{"text": "\":", "n": {"a": [{"b": 1, "b": "\":"}]}}',
        rb'{"text": "a", "n": {"a": 1, "\u0061": 2}}',
    ],
)
def test_no_spelling_hides_a_key_that_appears_twice(file, row):
    for content in (row, b"[" + row + b"]"):
        with pytest.raises(DatasetError, match="appears twice in one object"):
            inspect(file(content))


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=3))))
def test_rows_are_decoded_like_json_does(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("rows") / "file"
    for ascii_only in (True, False):
        text = json.dumps(row, ensure_ascii=ascii_only)
        with suppress(UnicodeEncodeError):
            path.write_text(text, encoding="utf-8")
            assert [each for _, _, each in read_rows(path)] == [json.loads(text)]


def test_nested_columns_of_parquet_are_plain_values(file):
    turns = [{"role": "user", "content": "Hi", "weight": None}, {"role": "assistant", "content": "Yes", "weight": 1}]
    content = as_parquet([{"messages": turns, "source": "desk"}] * 600, row_group_size=100)
    report = inspect(file(content))
    assert (report.format, report.rows, report.problem_count) == ("messages", 600, 0)
    assert (report.ignored_columns, report.repeated) == (("source",), 599)
    assert [example.line for example in read_examples(file(content))] == list(range(1, 601))


def test_an_array_is_read_in_constant_memory(file):
    row = json.dumps({"text": "x" * 1000})
    path = file(f"[{', '.join([row] * 20_000)}]".encode())
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


def test_a_row_longer_than_a_piece_of_the_array_is_whole(file):
    long = {"text": 'é\\" 🙂' * 200_000}
    assert [row for _, _, row in read_rows(file(json.dumps([long, {"text": "b"}], ensure_ascii=False).encode()))] == [
        long,
        {"text": "b"},
    ]


def test_members_of_an_archive_are_read_in_the_order_of_their_names(file):
    one, other = (line + b"\n" for line in LINES.splitlines())
    path = file(
        as_zip(
            [("b.jsonl", other), ("a.jsonl", one), ("c/x.png", PNG), ("__MACOSX/._a.jsonl", b"?"), (".DS_Store", b"?")]
        )
    )
    assert [(example.member, example.line, example.prompt) for example in read_examples(path)] == [
        ("a.jsonl", 1, "Where, then?"),
        ("b.jsonl", 1, "2"),
    ]


def test_a_problem_in_an_archive_is_named_with_its_member(file):
    path = file(as_zip([("a.jsonl", LINES), ("b.jsonl", b'{"prompt": "a", "completion": ""}\n')]))
    [problem] = inspect(path).problems
    assert (problem.member, problem.line, problem.field) == ("b.jsonl", 1, "completion")
    with pytest.raises(DatasetError, match=r"^b\.jsonl: Line 1: `completion` is empty"):
        list(read_examples(path))


BAD = {
    # --- one array
    "array of other things": (b"[1, 2]", "Row 1 must be an object, but '1' comes"),
    "array cut short": (b'[{"text": "a"}, {"text": "b', "Row 2 is not closed when the file ends"),
    "array without its end": (b'[{"text": "a"}', "a comma or the end of the array is due, but the end of the file"),
    "array without a comma": (b'[{"text": "a"} {"text": "b"}]', "comma"),
    "array with a comma too many": (b'[{"text": "a"},]', "Row 2 must be an object"),
    "empty array": (b"[]", "holds no rows"),
    "two arrays": (b'[{"text": "a"}] [{"text": "a"}]', "Behind the array comes '['"),
    "fault in an array": (b'[{"text": "a"}, {"text" "b"}' + b" " * 100 + b"]", "Row 2: not valid JSON"),
    "key twice in an array": (b'[{"text": "a", "text": "b"}]', "Line 1 cannot be used: the key 'text' appears twice"),
    "NaN in an array": (b'[{"text": "a", "n": NaN}]', "NaN is not a JSON value"),
    "Latin-1 in an array": (b'[{"text": "\xe9"}]', "byte 12 is 0xe9"),
    # --- tables
    "Latin-1 in a table": ("prompt,completion\né,b\n".encode("latin-1"), "Line 2 is not UTF-8: byte 1 is 0xe9"),
    "too many fields": (b"prompt,completion\na,b\na,b,c\n", "Line 3 has 3 fields, but the header names 2"),
    "too few fields": (b"prompt,completion\na\n", "Line 2 has 1 fields"),
    "column twice": (b"prompt,completion,prompt\na,b,c\n", "names the column 'prompt' twice"),
    "column without a name": (b"prompt,,completion\na,b,c\n", "Column 2 of the header has no name"),
    "header alone": (b"prompt,completion\n", "holds no rows"),
    "open quotation mark": (b'prompt,completion\na,"b\nc,d\n', "begins in line 2: a quotation mark is not closed"),
    "text behind a quotation mark": (b'prompt,completion\na,"b"c\n', "begins in line 2"),
    "zero byte": (b"prompt,completion\n" + b"a,b\n" * 200 + b"a,\0\n", "Line 202 holds a zero byte"),
    "columns without meaning": (b"a,b\n1,2\n", "its keys: `a`, `b`"),
    # --- Parquet
    "Parquet cut short": (as_parquet(ROWS)[:-20], "Parquet file cannot be read from its start"),
    "Parquet in name only": (b"PAR1\x15abc", "Parquet file cannot be read"),
    "Parquet without rows": (
        as_parquet(pyarrow.table({"text": pyarrow.array([], "string")})),
        "holds no rows",
    ),
    # --- archives
    "ZIP in name only": (b"PK\x03\x04abc", "ZIP archive cannot be unpacked"),
    "ZIP without rows": (as_zip([("a.png", PNG)]), "holds no file of rows"),
    "ZIP without anything": (as_zip([]), "empty ZIP archive"),
    "ZIP within a ZIP": (as_zip([("a.zip", as_zip([("a", LINES)]))]), "a.zip: The file is a ZIP archive within"),
    "gzip within a ZIP": (as_zip([("a.gz", gzip.compress(LINES))]), "a.gz: The file is gzip-compressed within"),
    "program in a ZIP": (as_zip([("a.jsonl", LINES), ("reward.py", "import os\n")]), "reward.py: the file is neither"),
    "mixed ZIP": (as_zip([("a.jsonl", LINES), ("b.csv", as_csv(ROWS))]), "mixes kinds of files"),
    "way up": (as_zip([("a/../../b.jsonl", LINES)]), "leads out of it"),
    "absolute name": (as_zip([("/etc/b.jsonl", LINES)]), "leads out of it"),
    "name with a drive": (as_zip([("C:\\b.jsonl", LINES)]), "leads out of it"),
    "way up with backslashes": (as_zip([("a\\..\\..\\b.jsonl", LINES)]), "leads out of it"),
    "names that differ in case": (as_zip([("a.jsonl", LINES), ("A.jsonl", LINES)]), "holds 'A.jsonl' twice"),
    "bomb": (as_zip([("a.jsonl", b" " * 2**22)]), "more than 100 times its size"),
    "gzip bomb": (gzip.compress(b'{"text": "' + b" " * 2**22), "unpacks to more than 100 times"),
    "gzip cut short": (gzip.compress(LINES * 100)[:-12], "gzip file cannot be unpacked"),
    "Parquet in gzip": (gzip.compress(as_parquet(ROWS)), "Parquet within gzip"),
    "ZIP in gzip": (gzip.compress(as_zip([("a", LINES)])), "ZIP archive within another"),
    # --- other files
    "UTF-16": ("prompt,completion\n".encode("utf-16"), "UTF-16"),
    "picture": (PNG, "is a picture"),
    "binary": (b"\x7fELF\x02\0\0", "not text"),
    "Arrow": (b"ARROW1\0\0", "Arrow"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_fault_of_a_file_is_named(file, content, words):
    for read in (inspect, lambda path: list(read_examples(path))):
        with pytest.raises(DatasetError) as caught:
            read(file(content))
        assert words in caught.value.message


def with_member(change):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        member = zipfile.ZipInfo("a.jsonl")
        change(member)
        archive.writestr(member, LINES)
    return target.getvalue()


def test_links_in_an_archive_are_refused(file):
    def link(member):
        member.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(DatasetError, match=r"'a\.jsonl' in the archive is a link or device"):
        inspect(file(with_member(link)))


def test_encrypted_members_are_refused(file):
    content = bytearray(with_member(lambda member: None))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    with pytest.raises(DatasetError, match=r"'a\.jsonl' in the archive is encrypted"):
        inspect(file(bytes(content)))


@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_damaged_member_is_named(file, rows):
    content = as_zip([("a.jsonl", LINES * rows)], zipfile.ZIP_STORED).replace(b"Where", b"There", 1)
    with pytest.raises(DatasetError, match=r"a\.jsonl cannot be unpacked: Bad CRC"):
        inspect(file(content))


def test_the_same_member_twice_is_refused(file):
    with pytest.warns(UserWarning, match="Duplicate"):
        content = as_zip([("a.jsonl", LINES), ("a.jsonl", LINES)])
    with pytest.raises(DatasetError, match=r"holds 'a\.jsonl' twice"):
        inspect(file(content))


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_MEMBERS", 1, "has 2 members"),
        ("MAX_UNPACKED_BYTES", 100, "up to 100"),
        ("MAX_PARQUET_BYTES", 9, "Parquet"),
    ],
)
def test_archives_beyond_the_limits_are_refused(file, monkeypatch, limit, value, words):
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(DatasetError, match=words):
        inspect(file(as_zip([(name, as_parquet(ROWS)) for name in ("a", "b")])))


def test_an_archive_with_a_huge_list_of_members_is_refused_unread(file):
    content = as_zip([(f"{number:0200}", b"") for number in range(22_000)])
    with pytest.raises(DatasetError, match="lists too many members; up to 10000"):
        inspect(file(content))


def test_a_field_beyond_the_limit_is_refused_with_its_line(file):
    with pytest.raises(DatasetError, match="begins in line 2: a field has more than"):
        inspect(file(b'prompt,completion\na,"' + (b"b" * 2**20 + b"\n") * 20))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"[", b"{", b'[{"', b"a,b\n", b"PAR1\x15", b"PK\x03\x04", b"\x1f\x8b\x08"]),
)
def test_no_bytes_raise_anything_but_a_named_error(tmp_path_factory, content, start):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(start + content)
    with suppress(DatasetError):
        inspect(path)
