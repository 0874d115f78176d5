"""Files that are wrong in every way: each fault is named with file, line and field, all of them."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_policy import load_directory
from sluice_policy.documents import FILE_BYTES_MAX, read_documents

HEAD = "apiVersion: sluice.dev/v1alpha1\nkind: DatabaseAccessPolicy\nmetadata: {name: p}\n"
DATABASE = "apiVersion: sluice.dev/v1alpha1\nkind: DataClassification\nmetadata: {name: d}\n"
GOOD = HEAD + "spec: {rules: [{name: r, effect: allow}]}\n"


def faults(folder, text):
    """(line, path, message) of every problem of one file."""
    loaded = load_directory(folder({"p.yaml": text}))
    return [(p.line, p.path, p.message) for p in loaded.problems]


def test_namespace_defaults_to_the_option(folder):
    loaded = load_directory(folder({"a.yaml": GOOD}), namespace="team")
    assert [r.full_name for r in loaded.resources] == ["team/p"]
    assert loaded.problems == ()


def test_classifications_carry_their_namespace(folder):
    text = DATABASE + "spec: {database: {hosts: [h], name: d}}\n"
    (found,) = load_directory(folder({"a.yaml": text}), namespace="team").classifications
    assert found.metadata.namespace == "team"
    assert found.spec.database.port == 5432


def test_files_are_read_recursively_and_hidden_ones_are_not(folder):
    loaded = load_directory(
        folder(
            {
                "b/c.yml": GOOD,
                "a.yaml": GOOD.replace("name: p", "name: q"),
                "..2026_11_23/a.yaml": GOOD,
                ".hidden.yaml": "[",
                "notes.txt": "[",
            }
        )
    )
    assert [r.name for r in loaded.resources] == ["q", "p"]
    assert loaded.problems == ()


def test_all_documents_of_all_files_are_reported(folder):
    loaded = load_directory(
        folder(
            {
                "a.yaml": HEAD + "spec: {mode: loud}\n---\n" + HEAD + "spec: {mode: shrill}\n",
                "b.yaml": "a: [\n",
                "c.yaml": GOOD,
            }
        )
    )
    places = [(p.file.rsplit("/", 1)[1], p.line, p.path) for p in loaded.problems]
    assert places[:2] == [("a.yaml", 4, "spec.mode"), ("a.yaml", 9, "spec.mode")]
    assert places[2][0] == "b.yaml"
    assert [r.name for r in loaded.resources] == ["p"]


def test_problem_reads_as_one_line(folder):
    (problem,) = load_directory(folder({"a.yaml": HEAD + "spec: {mode: loud}\n"})).problems
    line = str(problem)
    assert "a.yaml:4: DatabaseAccessPolicy default/p: spec.mode: must be 'enforce'" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        ("a: [1\nb: 2\n", 2, "", "malformed YAML"),
        ("\tx: 1\n", 1, "", "malformed YAML"),
        ("a: *nobody\n", 1, "", "malformed YAML"),
        ("- 1\n", 1, "", "not a resource"),
        ("just text\n", 1, "", "not a resource"),
        ("kind: Pod\napiVersion: v1\n", 1, "kind", "unknown kind 'Pod'"),
        ("apiVersion: v1\n", 1, "kind", "no kind"),
        (HEAD.replace("v1alpha1", "v2") + "spec: {}\n", 1, "apiVersion", "must be sluice.dev"),
        (HEAD, 1, "spec", "required"),
        (HEAD + "spec: {}\nsepc: {}\n", 5, "sepc", "did you mean spec?"),
        (HEAD + "spec:\n  rowfilters: []\n", 5, "spec.rowfilters", "did you mean rowFilters?"),
        (HEAD + "spec:\n  row_filters: []\n", 5, "spec.row_filters", "did you mean rowFilters?"),
        (HEAD + "spec:\n  mode: enforce\n  mode: audit\n", 6, "spec.mode", "given twice"),
        (HEAD + "spec: {subjects: []}\n", 4, "spec.subjects", "empty list"),
        (HEAD + "spec: {databases: {names: []}}\n", 4, "spec.databases.names", "empty list"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, actions: []}]}\n", 4,
         "spec.rules[0].actions", "empty list"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, actions: [selekt]}]}\n", 4,
         "spec.rules[0].actions[0]", "must be 'select'"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, tables: [users]}]}\n", 4,
         "spec.rules[0].tables[0]", "write schema.table"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, tables: ['public.[ab]']}]}\n", 4,
         "spec.rules[0].tables[0]", "only * is special"),
        (HEAD + "spec: {rules: [{name: r, effect: allow}, {name: r, effect: deny}]}\n", 4, "spec",
         "two rules are called 'r'"),
        (HEAD + "spec: {rules: [{name: r, effect: deny, limits: {rowsPerStatement: 1}}]}\n", 4,
         "spec.rules[0]", "limits bound what a rule allows"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, limits: {rowsPerStatement: '5'}}]}\n", 4,
         "spec.rules[0].limits.rowsPerStatement", "must be a valid integer"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, limits: {statementSeconds: .nan}}]}\n", 4,
         "spec.rules[0].limits.statementSeconds", "numbers are finite"),
        (HEAD + "spec: {rules: [{name: r, effect: allow, when: {hours: late}}]}\n", 4,
         "spec.rules[0].when.hours", "write hours as"),
        (HEAD + "spec:\n  masks:\n    - {class: pii, mask: null}\n", 6,
         "spec.masks[0].mask", "in quotes"),
        (HEAD + "spec:\n  masks:\n    - class: pii\n      mask: mail\n", 7,
         "spec.masks[0].mask", "unknown mask 'mail'"),
        (HEAD + "spec: {masks: [{class: PII, mask: redact}]}\n", 4, "spec.masks[0].class", "dotted lower-case"),
        (HEAD + "spec: {masks: [{class: public, mask: redact}]}\n", 4, "spec.masks[0].class", "reserved"),
        (HEAD + "spec: {rowFilters: [{table: a.b}]}\n", 4, "spec.rowFilters[0]", "exactly one of"),
        (HEAD + "spec: {rowFilters: [{table: a.b, where: x, exempt: true}]}\n", 4,
         "spec.rowFilters[0]", "exactly one of"),
        (HEAD + "spec: [1]\n", 4, "spec", "must be an object"),
        (HEAD + "spec: &x {mode: *x}\n", None, "", "more than"),
        (HEAD + "spec: {<<: {mode: audit}}\n", 4, "spec", "plain strings"),
        (HEAD + "spec: {1: 2}\n", 4, "spec", "plain strings"),
        (HEAD + "spec: {mode: !!binary aGk=}\n", 4, "spec.mode", "tag binary"),
        (HEAD + 'spec: {mode: "\\ud800"}\n', 4, "spec.mode", "cannot be read"),
        (DATABASE + "spec: {database: {hosts: [], name: d}}\n", 4, "spec.database.hosts", "empty list"),
        (DATABASE + "spec: {database: {hosts: ['a b'], name: d}}\n", 4, "spec.database.hosts[0]", "must match"),
        (DATABASE + "spec: {database: {hosts: [h], name: d, port: '1'}}\n", 4, "spec.database.port",
         "valid integer"),
        (DATABASE + "spec: {database: {hosts: [h], name: d, port: 70000}}\n", 4, "spec.database.port",
         "less than or equal to 65535"),
        (DATABASE + "spec: {database: {hosts: [h], name: d, pooler: transaction}}\n", 4,
         "spec.database.pooler", "settings of other clients"),
        (DATABASE + "spec: {database: {hosts: [h], name: d, clientTlsSecretRef: {name: x}}}\n", 4,
         "spec.database.clientTlsSecretRef", "did you mean clientTLSSecretRef?"),
        (DATABASE + "spec: {database: {hosts: [h], name: d}, columns: [{table: a.b, column: c, class: unreviewed}]}\n",
         4, "spec.columns[0].class", "reserved"),
        (DATABASE + "spec: {database: {hosts: [h], name: d}, trusted: {functions: [f]}}\n",
         4, "spec.trusted.functions[0]", "must match"),
    ],
)  # fmt: skip
def test_fault_is_named_with_line_and_field(folder, text, line, path, message):
    found = faults(folder, text)
    fitting = [f for f in found if f[1] == path and message in f[2]]
    assert fitting, found
    assert line is None or fitting[0][0] == line


def test_every_fault_of_one_resource_is_reported(folder):
    text = (
        HEAD
        + "spec:\n  mode: loud\n  subjects: []\n  masks:\n    - {class: pii, mask: mail}\n  x: 1\n"
    )
    assert [(line, path) for line, path, _ in faults(folder, text)] == [
        (5, "spec.mode"),
        (6, "spec.subjects"),
        (8, "spec.masks[0].mask"),
        (9, "spec.x"),
    ]


def test_messages_never_repeat_values_of_other_fields(folder):
    text = (
        HEAD + "spec: {rules: [{name: r, effect: deny, limits: {rowsPerStatement: 987654321}}]}\n"
    )
    assert all("987654321" not in message for _, _, message in faults(folder, text))


def test_second_resource_of_a_name_names_the_first(folder):
    loaded = load_directory(folder({"a.yaml": GOOD, "b.yaml": "\n" + GOOD}))
    (problem,) = loaded.problems
    assert problem.file.endswith("b.yaml")
    assert problem.line == 2
    assert "a.yaml:1" in problem.message
    assert len(loaded.resources) == 1


def test_too_large_file_is_refused(folder):
    assert faults(folder, "#" * (FILE_BYTES_MAX + 1))[0][2] == "larger than 4 MiB"


def test_alias_bomb_is_refused_quickly(folder):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{last}'] * 10)}]\n"
    assert "aliases expanded" in faults(folder, bomb)[0][2]


def test_deep_nesting_is_refused(folder):
    assert faults(folder, "[" * 1000)[0][2].startswith("malformed YAML")
    assert "levels" in faults(folder, "[" * 100 + "]" * 100)[0][2]


def test_other_encodings_are_refused(folder):
    found = load_directory(folder({"a.yaml": "kind: é".encode("latin-1")})).problems
    assert found[0].message == "not UTF-8 text"


def test_unreadable_and_empty_directories_are_named(folder, tmp_path):
    (missing,) = load_directory(tmp_path / "none").problems
    assert "is not a directory" in str(missing)
    (empty,) = load_directory(folder({})).problems
    assert "no *.yaml" in str(empty)


def test_broken_link_is_named(folder, tmp_path):
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone")
    (problem,) = load_directory(folder({})).problems
    assert "cannot be read" in problem.message


def test_pipe_is_not_waited_for(folder, tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    (problem,) = load_directory(folder({})).problems
    assert problem.message == "is not a file"


def test_words_of_older_yaml_stay_text(folder):
    text = HEAD + "spec: {subjects: [{workload: {podLabels: {country: no, port: on}}}]}\n"
    loaded = load_directory(folder({"a.yaml": text}))
    assert loaded.problems == ()


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_no_bytes_raise(data):
    documents, found = read_documents(data)
    assert isinstance(documents, list)
    assert isinstance(found, list)
