"""The rows of a sweep, from tables and from the command line: what they may hold, and that nothing in them is executed."""

import pytest
from refusals import refused

from xaikit.running.sweep_plan import parse_choice, rows_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model=tiny-clip,tiny-clip-shortcut", ["tiny-clip", "tiny-clip-shortcut"]),
        ("seed=0..3", [0, 1, 2, 3]),
        ("seed=-1..1,7", [-1, 0, 1, 7]),
        ("shard=*/3", ["1/3", "2/3", "3/3"]),
        ("shard=3/16", ["3/16"]),
        ("scale=1.5,2,None,True", [1.5, 2, None, True]),
        ("objects=[2, 4],[1, [3, 5]]", [[2, 4], [1, [3, 5]]]),
        ("prompt='a, b',\"c=d\"", ["a, b", "c=d"]),
        ("x=(1, 2),{'a': 1}", [(1, 2), {"a": 1}]),
        ("data=coco:some/folder#val2017", ["coco:some/folder#val2017"]),
    ],
)
def test_values_of_the_command_line(text, values):
    assert parse_choice(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    "value", ["__import__('os').system('exit 3')", "open('/etc/passwd')", "[].__class__", "{{7*7}}", "$(id)"]
)
def test_a_value_is_text_and_never_code(value, tmp_path):
    assert parse_choice(f"prompt={value}") == ("prompt", [value])
    (tmp_path / "table.csv").write_text('prompt,n\n"' + value.replace('"', '""') + '",3\n')
    assert rows_of(tmp_path / "table.csv", []) == [{"prompt": value, "n": 3}]


@pytest.mark.parametrize("text", ["seed", "=3", "seed=", "a b=3", "2n=1", "seed=1,,2", "seed=1,", "seed=,1"])
def test_what_is_no_choice(text):
    refused("NAME=VALUE is needed", parse_choice, text)


def test_choices_are_combined_with_each_other_and_with_the_table(tmp_path):
    (tmp_path / "table.csv").write_text("model,pretrained\ntiny-clip,\nViT-B-32,openai\n")
    assert rows_of(tmp_path / "table.csv", ["seed=0..1"]) == [
        {"model": "tiny-clip", "seed": 0},
        {"model": "tiny-clip", "seed": 1},
        {"model": "ViT-B-32", "pretrained": "openai", "seed": 0},
        {"model": "ViT-B-32", "pretrained": "openai", "seed": 1},
    ]
    assert rows_of(None, []) == [{}]


def test_yaml_is_a_list_of_rows_or_values_to_combine(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("- {n: 3, model: tiny-clip}\n- {n: 4}\n")
    assert rows_of(table, []) == [{"n": 3, "model": "tiny-clip"}, {"n": 4}]
    table.write_text("seed: 0..1\nobjects: [[2, 4]]\nmodel: [a, b]\n")
    rows = rows_of(table, [])
    assert [(row["seed"], row["model"]) for row in rows] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert all(row["objects"] == [2, 4] for row in rows)


def test_yaml_makes_no_objects(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("- {n: !!python/object/apply:os.system ['exit 3']}\n")
    refused("table.yaml isn't plain YAML", rows_of, table, [])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("t.csv", "n,seed\n1\n", "t.csv, line 2: it has more or fewer fields"),
        ("t.csv", "n\n1,2\n", "t.csv, line 2: it has more or fewer fields"),
        ("t.csv", "n\n", "no row below its head"),
        ("t.csv", "", "no row below its head"),
        ("t.yaml", "[1, 2]", "a list of rows is needed"),
        ("t.yaml", "", "a list of rows is needed"),
        ("t.yaml", "n: []", "parameter n has no values"),
        ("t.yaml", "seed: 4..0", "a range goes upwards"),
        ("t.yaml", "{seed: 0..999, n: 1..999}", "the sweep has 999000 rows"),
        ("t.yaml", "{1: 2}", "1 is no parameter's name"),
        ("t.csv", "n,n\n1,2\n", "t.csv: its head names n twice"),
        ("t.txt", "n", "a .csv, .yaml or .yml file"),
        ("none.csv", None, "there is no table"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path, name, text, problem):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        rows_of(tmp_path / name, [])


def test_a_parameter_is_given_once(tmp_path):
    (tmp_path / "table.csv").write_text("n\n3\n")
    refused("parameter n is in the table and in -p", rows_of, tmp_path / "table.csv", ["n=4"])
    refused("parameter n is given twice: write -p n=VALUE,VALUE", rows_of, None, ["n=4", "n=5"])
