"""The pages and the code say the same: nothing is missing in the pages, and they name nothing that does not exist."""

import dataclasses
import json
import pkgutil
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from fastapi import FastAPI
from pydantic_core import PydanticUndefined

import tunesmith
from stored_jobs import EMPTY_SERVICES, job_spec, stored_job
from tunesmith.data.archives import MAX_MEMBERS, MAX_PARQUET_BYTES, MAX_RATIO, MAX_UNPACKED_BYTES
from tunesmith.data.containers import READERS as CONTAINERS
from tunesmith.data.csv_rows import MAX_FIELD_CHARACTERS
from tunesmith.data.formats import READERS
from tunesmith.data.imaging import decoding
from tunesmith.data.imaging.captions import MAX_CAPTION_BYTES
from tunesmith.data.imaging.transforming import MAX_RESULT_PIXELS
from tunesmith.data.rows import read_examples
from tunesmith.data.text_lines import MAX_LINE_BYTES
from tunesmith.data.validate import MAX_PROBLEMS, MAX_REMEMBERED, inspect
from tunesmith.dialects.openai.translate import MIN_EXAMPLES
from tunesmith.jobs.pictures import collecting, transforming, verifying
from tunesmith.jobs.pictures.preparing import LEAST_PICTURES
from tunesmith.jobs.pictures.report import Stage
from tunesmith.jobs.supervisor import GRACE_SECONDS
from tunesmith.plugins import load_plugins
from tunesmith.rundir import RunDirectory
from tunesmith.server.home import Home
from tunesmith.server.settings import Settings, load_settings
from tunesmith.spec.errors import ERRORS
from tunesmith.spec.lifecycle import TRANSITIONS, State
from tunesmith.spec.reading import Purpose

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
DIALECTS = load_plugins("tunesmith.dialects")
PACKAGE = Path(tunesmith.__file__).parent


class NoModels:
    def find(self, _id):
        return None


SERVICES = dataclasses.replace(EMPTY_SERVICES, produced_models=NoModels())


def tables(page, first_column):
    """Rows of all tables of a page whose first column has this title, as mappings."""
    found, header = [], None
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = cells
        elif header[0] == first_column and not set(line) <= set("|-: "):
            found.append(dict(zip(header, cells, strict=True)))
    return found


def codes(cell):
    """The words in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def code(cell):
    """The one word in backquotes with which a cell begins."""
    assert cell.startswith("`"), cell
    return codes(cell)[0]


def blocks(page, language):
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def by_page(page):
    return str(page.relative_to(ROOT))


# --- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_is_described_with_its_variable_and_its_default():
    rows = {code(row["setting"]): row for row in tables(DOCS / "operations.md", "setting")}
    assert list(rows) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert code(rows[name]["environment"]) == f"TUNESMITH_{name.upper()}"
        for limit in field.metadata:
            for bound in ("ge", "le"):
                number = getattr(limit, bound, None)
                assert number is None or str(number) in rows[name]["meaning"]
        if name != "worker_python":  # the interpreter at hand
            assert rows[name]["default"] == _shown_default(field.default)


def _shown_default(value):
    if value in ((), {}, None):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_example_of_a_settings_file_is_accepted(tmp_path):
    [text] = blocks(DOCS / "operations.md", "toml")
    (tmp_path / "tunesmith.toml").write_text(text)
    assert load_settings(home=tmp_path).model_aliases
    assert set(tomllib.loads(text)) <= set(Settings.model_fields)


def test_every_path_of_the_home_is_described():
    described = " ".join(row["path"] for row in tables(DOCS / "operations.md", "path"))
    home = Home(Path("HOME"))
    run = RunDirectory(home.jobs / "JOB" / "attempts" / "1")
    for paths in (home, run):
        for name in [name for name, part in vars(type(paths)).items() if isinstance(part, property)]:
            path = getattr(paths, name).name
            assert re.search(rf"[`/]{re.escape(path)}[`/]", described), path


# --- errors and states -----------------------------------------------------------------------------------------------


def test_every_error_code_is_described_with_its_status_in_every_dialect():
    rows = {code(row["code"]): row for row in tables(DOCS / "errors.md", "code")}
    assert set(rows) == set(ERRORS)
    for name, row in rows.items():
        assert set(row) == {"code", *DIALECTS, "meaning", "what to do"}
        for dialect, module in DIALECTS.items():
            status, _ = module.render_error(ERRORS[name]("message"), module.PREFIXES[0])
            assert row[dialect] == str(status), f"{name} in {dialect}"
        assert row["meaning"]
        assert row["what to do"]


def test_every_state_is_described_with_its_word_in_every_dialect():
    rows = {code(row["state"]): row for row in tables(DOCS / "states.md", "state")}
    assert list(rows) == [state.value for state in State]
    for state in State:
        assert set(rows[state]) == {"state", "meaning", *DIALECTS}
        for name, dialect in DIALECTS.items():
            rendered = dialect.render_job(stored_job(state, job_spec()), SERVICES)
            word = rendered.get("status") or rendered.get("state")
            assert code(rows[state][name]) == word, f"{state} in {name}"


def test_every_transition_is_described():
    rows = tables(DOCS / "states.md", "from")
    described = [tuple(code(row[column]) for column in ("from", "trigger", "to")) for row in rows]
    assert described == [(state, trigger, to) for (state, trigger), to in TRANSITIONS.items()]
    assert all(row["when"] for row in rows)


def test_the_state_diagram_shows_only_transitions_that_exist():
    [diagram] = blocks(DOCS / "architecture.md", "mermaid")
    shown = re.findall(r"^  (\w+) --> (\w+): (.+)$", diagram, re.MULTILINE)
    assert shown
    for source, target, label in shown:
        for trigger in re.split(r", | or ", label):
            assert TRANSITIONS[source, trigger] == target
    assert {word for source, target, _ in shown for word in (source, target)} == {state.value for state in State}


# --- dialects --------------------------------------------------------------------------------------------------------


def test_every_dialect_has_a_page_and_every_page_a_dialect():
    assert {page.stem for page in (DOCS / "dialects").glob("*.md")} == set(DIALECTS)


@pytest.fixture(params=DIALECTS, ids=str)
def dialect(request):
    """A dialect's page and its OpenAPI document."""
    app = FastAPI()
    app.include_router(DIALECTS[request.param].routes())
    return DOCS / "dialects" / f"{request.param}.md", app.openapi()


def test_every_endpoint_is_described_with_its_query(dialect):
    page, document = dialect
    rows = {code(row["endpoint"]): row for row in tables(page, "endpoint")}
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(rows) == set(operations)
    for name, operation in operations.items():
        pieces = {code(piece.strip()): piece for piece in rows[name]["query"].split(";") if piece.strip()}
        parameters = {each["name"]: each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        assert set(pieces) == set(parameters), name
        for parameter, schema in parameters.items():
            _require_facts(schema, pieces[parameter], f"{name}: {parameter}")
        assert rows[name]["answers with"], name


def test_every_field_of_every_request_is_described_with_its_range_and_default(dialect):
    page, document = dialect
    rows = {code(row["field"]): row for row in tables(page, "field")}
    fields = dict(_fields(document))
    assert set(rows) == set(fields)
    for name, (schema, required) in fields.items():
        row = rows[name]
        assert row["default"].startswith("required") == required, name
        assert row["meaning"], name
        _require_facts(schema, " ".join((row["range"], row["default"])), name)


def _fields(document):
    """Path, schema and necessity of every field of every request body; a schema used twice is opened once."""
    opened = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from _fields_of(content["schema"], "", document, opened)


def _fields_of(schema, prefix, document, opened):
    schema, name = _resolved(schema, document)
    if name in opened:
        return
    opened |= {name} if name else set()
    for field, part in schema.get("properties", {}).items():
        yield prefix + field, (part, field in schema.get("required", ()))
        for each in part.get("anyOf", [part]):
            if "$ref" in each:
                yield from _fields_of(each, f"{prefix}{field}.", document, opened)


def _resolved(schema, document):
    if "$ref" not in schema:
        return schema, None
    name = schema["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name], name


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength")


def _require_facts(schema, text, name):
    """Every bound, every allowed word and the default stand in a text."""
    words = set(re.findall(r"[\w.-]+", text.replace(",", "")))
    for part in [schema, *schema.get("anyOf", ())]:
        for bound in _BOUNDS:
            if bound in part:
                assert f"{part[bound]:g}" in words or str(int(part[bound])) in words, f"{name}: {bound}"
        for word in part.get("enum", ()):
            assert str(word) in codes(text), f"{name}: {word}"
    if schema.get("default") is not None:
        assert _plain(schema["default"]) in (*codes(text), *words), f"{name}: default"


def _plain(value):
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return format(Decimal(str(value)), "f") if isinstance(value, int | float) else value


# --- structure -------------------------------------------------------------------------------------------------------


def test_the_tree_shows_every_part_of_the_package_and_no_other():
    [tree] = [block for block in blocks(DOCS / "architecture.md", "") if block.startswith("src/tunesmith/")]
    shown = re.findall(r"^  ([\w.]+/?) +\S", tree, re.MULTILINE)
    there = [
        f"{part.name}/" if part.is_dir() else part.name
        for part in PACKAGE.iterdir()
        if not part.name.startswith("_") and part.suffix in ("", ".py")
    ]
    assert sorted(shown) == sorted(there)


def test_every_folder_that_the_architecture_names_exists():
    text = (DOCS / "architecture.md").read_text()
    [beside] = re.findall(r"^Beside it: (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    parent = ROOT
    for folder in re.findall(r"`([\w/]+)/`", beside):
        parent = ROOT / folder if (ROOT / folder).is_dir() else parent
        assert (ROOT / folder).is_dir() or (ROOT / "tests" / folder).is_dir(), folder


def test_every_source_file_that_the_architecture_names_exists():
    named = re.findall(r"\b((?:\w+/)*\w+\.py)\b", (DOCS / "architecture.md").read_text())
    assert named
    for path in named:
        assert (PACKAGE / path).is_file(), path


def test_every_term_of_the_glossary_exists_in_the_code():
    rows = tables(DOCS / "glossary.md", "term")
    assert len(rows) == len({row["term"] for row in rows}) > 30
    for row in rows:
        pkgutil.resolve_name(code(row["code"]))


def test_decisions_are_numbered_without_gaps_and_say_all_that_they_should():
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for page in DECISIONS:
        headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
        assert headings[0].startswith(f"{page.name[:4]} ")
        assert headings[1:] == ["Context", "Choice", "Price", "When to revisit"]


def test_the_architecture_links_every_decision_by_its_title():
    links = re.findall(r"^- \[(.+)\]\((decisions/.+)\)$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    titles = [(page.read_text().partition("\n")[0].removeprefix("# "), f"decisions/{page.name}") for page in DECISIONS]
    assert links == titles


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in [_slug(heading) for heading in re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)]


def _slug(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        ahead += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert set(PAGES) <= reached


# --- what the pages may say ------------------------------------------------------------------------------------------

_OWN_ADDRESSES = {"127.0.0.1", "localhost"}
_OTHER_ADDRESSES = {"keepachangelog.com", "semver.org", "huggingface.co"}

_UNWANTED = (
    r"(?<![\w.~])/(?:work|root|tmp|Users|home/\w)",  # paths of one person's machine
    r"(?<![\w_.`])[Bb]ackends?\b",  # the word has too many meanings
    r"\b(?:TODO|FIXME|XXX)\b",
    r"\b(?:blazing|seamless|effortless|state-of-the-art|cutting-edge|powerful|world-class)\w*",
)


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_pages_hold_no_unwanted_words_and_no_strange_addresses(page):
    text = page.read_text()
    for pattern in _UNWANTED:
        assert not re.search(pattern, text), pattern
    hosts = {match.lower() for match in re.findall(r"https?://([\w.-]+)", text)}
    assert hosts <= _OWN_ADDRESSES | _OTHER_ADDRESSES


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_examples_in_the_pages_are_well_formed(page):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
    for block in blocks(page, "json"):
        try:
            json.loads(block)
        except json.JSONDecodeError:
            for line in block.splitlines():
                json.loads(line)
    for block in blocks(page, "toml"):
        tomllib.loads(block)


def test_example_rows_are_accepted_one_of_each_format(tmp_path):
    [block] = [block for block in blocks(DOCS / "data.md", "json") if "messages" in block]
    lines = block.splitlines()
    assert len(lines) == len(READERS)
    for line, shape in zip(lines, READERS, strict=True):
        file = tmp_path / "row.jsonl"
        file.write_text(line)
        report = inspect(file)
        assert (report.format, report.problem_count, report.ignored_columns) == (shape, 0, ())
        assert len(list(read_examples(file))) == 1
    formats = [code(row["format"]) for row in tables(DOCS / "data.md", "format")]
    assert formats == list(READERS)


def test_purposes_of_columns_and_kinds_of_files_are_all_described():
    assert [code(row["purpose"]) for row in tables(DOCS / "data.md", "purpose")] == list(get_args(Purpose))
    kinds = [code(row["kind of file"]) for row in tables(DOCS / "data.md", "kind of file")]
    assert kinds == [*CONTAINERS, "zip", "gzip"]


def test_commands_of_make_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^)make ([\w-]+)", page.read_text(), re.MULTILINE)) <= targets, page.name


def test_numbers_in_the_pages_are_those_of_the_code():
    operations, states, data = ((DOCS / name).read_text() for name in ("operations.md", "states.md", "data.md"))
    assert f"{GRACE_SECONDS:.0f} seconds to save its state" in states
    assert f"still lives {GRACE_SECONDS:.0f} seconds" in operations
    assert f"up to {MAX_LINE_BYTES // 2**20} MiB" in data
    assert f"up to {MAX_FIELD_CHARACTERS // 2**20} Mi characters" in data
    assert f"up to {MAX_MEMBERS:,} members" in data
    assert f"{MAX_RATIO} times" in data
    assert f"{MAX_UNPACKED_BYTES // 2**30} GiB" in data
    assert f"{MAX_PARQUET_BYTES // 2**20} MiB" in data
    assert f"{MAX_REMEMBERED:,} different rows" in data
    assert f"the first {MAX_PROBLEMS} with their lines" in data
    assert f"at least {MIN_EXAMPLES})" in data


def test_numbers_about_pictures_are_those_of_the_code():
    page = (DOCS / "pictures.md").read_text()
    assert (
        f"{decoding.MAX_FILE_BYTES // 2**20} MiB; {decoding.MAX_PIXELS:,} pixels in all and {decoding.MAX_SIDE:,}"
        in page
    )
    assert f"{MAX_MEMBERS:,} files; {MAX_UNPACKED_BYTES // 2**30} GiB and {MAX_RATIO} times its size" in page
    assert f"{MAX_CAPTION_BYTES // 1024} KiB of UTF-8" in page
    assert f"| addresses of a job | {collecting.MAX_SOURCES:,} |" in page
    assert f"{LEAST_PICTURES} to {verifying.MAX_PICTURES:,}, which may have {collecting.MAX_BYTES // 2**30} GiB" in page
    assert f"{transforming.MAX_SET_BYTES // 2**30} GiB as they are prepared" in page
    assert f"{MAX_RESULT_PIXELS:,} pixels" in page
    for stage in get_args(Stage):
        assert f"| `{stage}` |" in page


def test_the_default_address_in_the_readme_is_the_servers():
    host, port = (Settings.model_fields[name].default for name in ("host", "port"))
    assert PydanticUndefined not in (host, port)
    assert f"http://{host}:{port}/v1" in (ROOT / "README.md").read_text()
