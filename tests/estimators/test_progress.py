"""What a fit says while it runs, and that it says nothing where it was not asked."""

import io
import re
import sys

import pytest

from streamgmm import GaussianMixture
from streamgmm.estimators import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_said_unless_asked(x, capsys):
    GaussianMixture(2, random_state=0).fit(x)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("interval", [1, 2])
def test_a_line_in_so_many_iterations_and_one_at_the_end(interval, x, capsys):
    model = GaussianMixture(
        3, random_state=0, verbose=2, verbose_interval=interval, init_params="random_from_data", accelerate=False,
        max_iter=7, tol=0,
    ).fit(x)  # fmt: skip
    out, err = capsys.readouterr()
    assert out == ""
    *lines, last = err.splitlines()
    numbers = [int(re.match(r"iteration (\d+):", line)[1]) for line in lines if line.startswith("iteration")]
    assert numbers == [n for n in range(1, 8) if n % interval == 0 or n == 7]
    assert last == f"stopped after 7 iterations: {model.stop_reason_.value}"
    assert f"{model.lower_bound_:.6f} nats/row" in err


def test_a_terminal_has_a_bar_that_ends_full(x, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    model = GaussianMixture(3, random_state=0, verbose=1).fit(x)
    shown = terminal.getvalue()
    for phase in ("first pass", "search on the sample", f"iteration {model.n_iter_}"):
        assert phase in shown
    assert "iteration 1:" not in shown
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.replace("\r", "\n")).strip().splitlines()[-1]
    # Not cut off, whatever the terminal's width.
    assert len(last) <= 80
    assert f"{model.lower_bound_:.4f} nats/row" in last
    assert last.endswith(tuple("0123456789"))


def test_lines_where_there_is_no_terminal_and_everywhere_with_verbose_2(monkeypatch, x):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "_show_bar", lambda: pytest.fail("a bar"))
    GaussianMixture(2, random_state=0, verbose=2).fit(x)
    assert "iteration 1:" in sys.stderr.getvalue()
