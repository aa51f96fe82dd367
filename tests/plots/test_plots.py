"""Pictures: what they draw is what the mixture and the rows say; they have titles and units; nothing is clipped."""

import re
import sys

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.patches import Ellipse

import streamgmm
from streamgmm import GaussianMixture, InputError, plots, search
from streamgmm.cli.main import main
from streamgmm.fitting.display import show_spread
from streamgmm.plots.page import PICTURES, save_pictures
from tests.estimators.test_handmade import by_hand


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def a_mixture(n_components, n_features, seed=0):
    rng = np.random.default_rng(seed)
    factors = np.eye(n_features) + 0.3 * rng.normal(size=(n_components, n_features, n_features)) / np.sqrt(n_features)
    names = [f"feature number {j} of many, in units" if j % 3 == 0 else f"f{j}" for j in range(n_features)]
    return GaussianMixture.from_parameters(
        rng.dirichlet(np.full(n_components, 2.0)), 4.0 * rng.normal(size=(n_components, n_features)),
        factors @ factors.transpose(0, 2, 1), feature_names=names, random_state=0,
    )  # fmt: skip


def inside(figure):
    """Texts that are not whole within the figure."""
    figure.draw_without_rendering()
    renderer, width, height = figure.canvas.get_renderer(), *figure.bbox.size
    cut = []
    for text in figure.findobj(plt.Text):
        if not text.get_visible() or not text.get_text().strip() or text.get_clip_on():
            continue
        box = text.get_window_extent(renderer)
        if box.width and (box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1):
            cut.append(text.get_text())
    return cut


ALL_SIZES = [(n_features, n_components) for n_features in (1, 2, 5, 200) for n_components in (1, 3, 40)]
FEW_SIZES = [(1, 1), (2, 3), (5, 40)]


@pytest.mark.parametrize(
    ("n_features", "n_components"),
    [pytest.param(*size, marks=() if size in FEW_SIZES else pytest.mark.slow) for size in ALL_SIZES],
)
def test_titles_and_units_are_there_and_nothing_is_cut(n_features, n_components):
    model = a_mixture(n_components, n_features)
    x = pd.DataFrame(model.sample(500)[0], columns=model.feature_names_in_)
    drawn = [plots.plot_histogram(model, x), plots.plot_profile(model, x), plots.plot_responsibilities(model, x)]
    drawn += [plots.plot_contours(model, x)] if n_features > 1 else []
    drawn += [plots.plot_histogram(model), plots.plot_profile(model), plots.plot_responsibilities(model)]
    tree = model.merge_tree(n_samples=500)
    drawn += [plots.plot_dendrogram(model, tree), plots.plot_entropies(tree)]
    for ax in drawn:
        assert ax.get_title()
        assert inside(ax.figure) == []
        if ax.get_xlabel() or ax.get_ylabel():
            assert ax.get_xlabel()
            assert ax.get_ylabel()
    corner = plots.plot_pairs(model, x, n_features=3)
    assert corner.shape == (min(n_features, 3),) * 2
    assert corner[0, 0].figure.get_suptitle()
    assert inside(corner[0, 0].figure) == []


def test_a_histogram_is_the_density_of_the_rows_and_lines_are_the_weighted_components():
    model = by_hand(feature_names=["a", "b", "c"])
    x = pd.DataFrame(model.sample(4000, chunks=4000)[0].compute(), columns=["a", "b", "c"])
    weight = np.where(x["b"] > 0.0, 3.0, 1.0)
    _, own = plt.subplots()
    ax = plots.plot_histogram(model, x, "b", sample_weight=weight, ax=own)
    assert ax is own
    heights, edges, _ = ax.patches[0].get_data()
    inside_view = ((x["b"] >= edges[0]) & (x["b"] <= edges[-1])).to_numpy()
    assert (heights * np.diff(edges)).sum() == pytest.approx(weight[inside_view].sum() / weight.sum())
    *parts, total = (line for line in ax.lines if len(line.get_xdata()) > 2)
    grid = total.get_xdata()
    np.testing.assert_allclose(np.sum([line.get_ydata() for line in parts], axis=0), total.get_ydata())
    np.testing.assert_allclose(np.log(total.get_ydata()), model.marginal("b").score_samples(pd.DataFrame({"b": grid})))
    assert "b" in ax.get_xlabel()
    assert "2 other features not shown" in ax.get_title()


def test_ellipses_are_at_two_standard_deviations():
    model = by_hand()
    ax = plots.plot_contours(model, None, [2, 0])
    ellipses = [patch for patch in ax.patches if isinstance(patch, Ellipse)]
    assert len(ellipses) == 3
    part = model.marginal([2, 0])
    for ellipse in ellipses:
        k = int(np.argmin(np.abs(part.means_ - ellipse.center).sum(axis=1)))
        on_it = ellipse.get_patch_transform().transform(
            np.stack([np.cos(t := np.linspace(0, 6, 9)), np.sin(t)], axis=1)
        )
        offsets = on_it - part.means_[k]
        squares = np.einsum("ni,ij,nj->n", offsets, part.precisions_[k], offsets)
        np.testing.assert_allclose(squares, 4.0, rtol=1e-9)


def test_the_features_that_separate_are_shown():
    means = np.zeros((2, 200))
    means[1, [17, 150]] = 5.0
    model = GaussianMixture.from_parameters([0.5, 0.5], means, np.ones((2, 200)), covariance_type="diag")
    assert model._parameters().most_separating(2).tolist() == [17, 150]
    assert plots.plot_contours(model).get_xlabel() == "17"
    ax = plots.plot_profile(model)
    assert {"17", "150"} <= {label.get_text() for label in ax.get_xticklabels()}
    assert "190 features that separate them less not shown" in ax.get_title()
    with pytest.raises(InputError, match="contours are of two features, and there are 3"):
        plots.plot_contours(model, None, [0, 1, 2])


def test_a_profile_has_the_means_of_all_rows_and_of_the_components():
    model = GaussianMixture.from_parameters(
        [0.25, 0.75], [[1.0, 2e7], [5.0, -3e7]], [[0.25, 1e10], [4.0, 1e12]], covariance_type="diag"
    )
    texts = [text.get_text() for text in plots.plot_profile(model).texts]
    assert texts[:2] == [show_spread(4.0, np.sqrt(0.75 * 4 + 0.25 * 0.25 + 0.1875 * 16)), "-1.75e+07 ± 2.2e+07"]
    assert texts[2] == "5.0 ± 2.0"
    assert show_spread(-0.004, 1.0) == "0.0 ± 1.0"
    assert show_spread(1234.567, 0.0321) == "1,234.567 ± 0.032"
    assert show_spread(3.0, 0.0) == "3"


def test_outliers_do_not_take_over_the_view():
    model = by_hand()
    x = model.sample(5000)[0]
    x[:5] = 1e6
    assert plots.plot_histogram(model, x, 0).get_xlim()[1] < 100.0


def test_rows_come_from_any_source_and_clusters_share_a_colour():
    model = by_hand().merge(2, distance="bhattacharyya")
    x = model.sample(3000)[0]
    whole, lazy = (plots.plot_histogram(model, rows, 1) for rows in (x, da.from_array(x, chunks=(500, 3))))
    np.testing.assert_array_equal(whole.patches[0].get_data().values, lazy.patches[0].get_data().values)
    colors = {line.get_label(): line.get_color() for line in whole.lines}
    by_cluster = {}
    for label, color in colors.items():
        found = re.search(r"cluster (\d)", label)
        if found:
            by_cluster.setdefault(found[1], set()).add(color)
    assert [len(one) for one in by_cluster.values()] == [1, 1]


def test_convergence_shows_what_was_kept_and_what_was_taken_back():
    x = by_hand(random_state=0).sample(3000)[0]
    model = GaussianMixture(3, random_state=0, accelerate=False, max_iter=5, tol=0, init_params="random_from_data").fit(
        x
    )
    ax = plots.plot_convergence(model)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), model.lower_bounds_)
    shown = {line.get_label(): len(line.get_xdata()) for line in ax.lines[1:]}
    assert sum(shown.values()) == len(model.lower_bounds_)
    with pytest.raises(InputError, match="was made, and not fitted"):
        plots.plot_convergence(by_hand())


def test_criteria_are_drawn_with_their_errors():
    x = by_hand(random_state=0).sample(2000)[0]
    found = search(x, range(1, 4), covariance_type=["full", "diag"], criterion="held_out", random_state=0)
    ax = plots.plot_criteria(found)
    assert len(ax.containers) == 2
    drawn = {(round(px), py) for line in ax.containers for px, py in zip(*line[0].get_data(), strict=True)}
    assert drawn == {(one.n_components, one.held_out) for one in found.candidates}
    assert "standard error" in ax.get_title()
    assert plots.plot_criteria(found, "bic").get_ylabel() == "BIC"
    with pytest.raises(InputError, match="criterion must be one of"):
        plots.plot_criteria(found, "gap")


def test_a_dendrogram_is_of_the_tree():
    model = by_hand()
    ax = plots.plot_dendrogram(model, model.merge_tree(distance="runnalls"))
    assert {label.get_text().partition(":")[0] for label in ax.get_xticklabels()} == {"0", "1", "2"}
    assert ax.get_ylabel() == "cost of one Gaussian for both, nats per row"
    with pytest.raises(InputError, match="made without rows"):
        plots.plot_entropies(streamgmm.merging.agglomerate.merge_components(model._parameters(), distance="runnalls"))


def test_files_of_pictures(tmp_path):
    x = by_hand(random_state=0).sample(500)[0]
    model = GaussianMixture(2, random_state=0).fit(pd.DataFrame(x, columns=["a", "b", "c"]))
    model.name_ = "Visits <daily>"
    streamgmm.save(model, tmp_path / "m.safetensors")
    pd.DataFrame(x, columns=["a", "b", "c"]).to_parquet(tmp_path / "x.parquet")

    def run(*arguments, code=0):
        done = CliRunner().invoke(main, ["plot", str(tmp_path / "m.safetensors"), *map(str, arguments)])
        assert done.exit_code == code, done.output
        return done.output

    run(tmp_path / "x.parquet", "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "Visits &lt;daily&gt;" in page
    assert not re.search(r"(?:src|href)=.https?:", page)
    for suffix, begins in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        run("--output", tmp_path / f"x.{suffix}", "--features", "a,1", "--what", "contours")
        assert (tmp_path / f"x.{suffix}").read_bytes().startswith(begins)
    assert "x.png exists" in run("--output", tmp_path / "x.png", code=73)
    assert "ends in .png, .svg, .pdf, .html" in run("--output", tmp_path / "x.gif", code=2)
    assert "no feature 'z'" in run("--output", tmp_path / "y.png", "--features", "z", code=2)
    assert not (tmp_path / "y.png").exists()
    assert {"responsibilities", "histogram"} < set(PICTURES)
    for what in ("responsibilities", "histogram"):
        assert save_pictures(model, str(tmp_path / f"{what}.png"), what=what) == [what]


def test_rows_count_by_their_weights():
    model = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [2.0]], [1.0, 1.0], covariance_type="spherical")
    x = model.sample(1000)[0]
    weight = np.where(np.abs(x[:, 0] - 1.0) < 0.7, 1000.0, 1.0)
    sure = np.average(model.predict_proba(x).max(axis=1) > 0.95, weights=weight)
    assert f"{sure:.1%} of them" in plots.plot_responsibilities(model, x, sample_weight=weight).get_title()
    counts = np.random.default_rng(0).poisson(5, size=(5000, 1))
    assert "5,000 rows" in plots.plot_histogram(model, counts).get_title()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(InputError, match=r"this needs the package matplotlib: pip install 'streamgmm\[plot\]'"):
        plots.plot_profile(by_hand())
