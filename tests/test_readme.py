"""README is a promise: each of its code blocks runs, and gives the output that stands there."""

import doctest
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamgmm.cli.main import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)


def blocks(kind):
    return [text for name, text in BLOCKS if name == kind]


def test_every_block_is_of_a_kind_that_is_run():
    assert {name for name, _ in BLOCKS} == {"sh", "python", "console"}


def test_it_is_a_front_page():
    assert len(TEXT.split()) < 900


def test_the_two_set_up_commands_are_those_that_ci_runs():
    """It looks for them by their beginning and their end, and runs them in a clean clone."""
    ci = (ROOT / ".ci" / "run").read_text()
    patterns = re.findall(r"grep -m1 '(.*?)' README\.md", ci)
    assert len(patterns) == 2
    assert [re.search(pattern, TEXT, re.M)[0] + "\n" for pattern in patterns] == blocks("sh")


def test_python_and_commands_print_what_stands_there(tmp_path, monkeypatch):
    """One after the other, in one folder: the commands read what Python wrote."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    example = doctest.DocTestParser().get_doctest(code, {}, "README.md", "README.md", 0)
    assert len(example.examples) > 8
    said = []
    doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)
    (text,) = blocks("console")
    commands = re.findall(r"^\$ streamgmm (.*)\n((?:(?!\$ ).*\n)*)", text, re.M)
    assert len(commands) == 3
    for command, expected in commands:
        result = CliRunner().invoke(main, command.split())
        assert result.exit_code == 0, result.output
        assert result.stdout == expected


@pytest.mark.parametrize("link", sorted({*re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)}))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
