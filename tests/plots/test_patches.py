"""Pictures: they show every component, the largest first, and refuse what they can't show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError
from streamgmm.plots.patches import save_patch_components


@pytest.fixture
def model(rng):
    x = np.concatenate([rng.normal(0.2, 0.1, (300, 6)), rng.normal(0.8, 0.1, (100, 6))])
    return GaussianMixture(2, random_state=0).fit(x)


def test_the_picture_shows_means_and_directions_of_all_components(model, tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    path = tmp_path / "picture.png"
    save_patch_components(model, (2, 3), str(path), n_directions=4, title="two clusters")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    assert len(figure.axes) == 2 * (1 + 4)
    assert figure.get_suptitle() == "two clusters"
    first = figure.axes[0]
    np.testing.assert_allclose(first.images[0].get_array(), model.means_[model.weights_.argmax()].reshape(2, 3))
    assert first.get_ylabel() == "75.0%"


def test_a_patch_of_another_size_is_refused_by_name(model, tmp_path):
    with pytest.raises(InputError, match=r"patch of shape \(2, 2\) does not have 6 pixels"):
        save_patch_components(model, (2, 2), str(tmp_path / "picture.png"))
    assert not list(tmp_path.iterdir())
