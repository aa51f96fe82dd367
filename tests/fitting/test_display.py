"""Reports: aligned, never cut, plain where there is no terminal."""

import sys

import pytest

from streamgmm.fitting.display import show_facts, show_table
from streamgmm.units import show_size


def test_facts_stand_below_each_other():
    assert show_facts("A plan", [("rows", "1,000"), ("a pass", "2 s")]) == "A plan\n  rows    1,000\n  a pass  2 s"


def test_a_table_is_aligned_and_plain_without_a_terminal():
    text = show_table([("name", False), ("value", True)], [("a", "1.5"), ("long", "10.25")], marked=1)
    assert text.splitlines() == ["name  value", "a       1.5", "long  10.25"]


def test_on_a_terminal_the_marked_row_stands_out_and_nothing_is_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    text = show_table([("name", False), ("value", True)], [("a" * 60, "1.5"), ("b", "2.5")], marked=1)
    assert "a" * 60 in text
    assert "\x1b[1m" in text


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (2e9, "2.0 GB"), (3.2e13, "32.0 TB")],
)
def test_sizes_are_decimal_as_memory_limits_are(n_bytes, said):
    assert show_size(n_bytes) == said
