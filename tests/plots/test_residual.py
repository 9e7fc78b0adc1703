"""Pictures of the approximation and the residual, of every kind of V."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.sparse import csr_array, random_array

import jaxnmf
from jaxnmf.datasets.base import Dataset
from jaxnmf.plots import samples
from jaxnmf.plots.residual_size import size_of
from jaxnmf.plots.squares import squares

RNG = np.random.default_rng(0)
W, H = RNG.random((12, 2)), RNG.random((2, 6))
V = np.abs(W @ H + 0.1 * RNG.standard_normal((12, 6)))
X = W @ H


def dataset(kind: str, V: Any = V, **attributes: Any) -> Dataset:
    return Dataset(
        name="x", V=V, kind=kind, about="", source="", licence="", **attributes
    )


def shown(axes: Any) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def test_rows_are_images_above_their_approximation():
    axes = jaxnmf.plots.reconstruction((W, H), V, image=(2, 3), which=[0, 7])
    assert axes.shape == (2, 2)
    for j, i in enumerate((0, 7)):
        np.testing.assert_array_equal(shown(axes[0, j]), V[i].reshape(2, 3))
        np.testing.assert_allclose(shown(axes[1, j]), X[i].reshape(2, 3))
        assert axes[0, j].get_title() == f"row {i}"
    high = max(V[[0, 7]].max(), X[[0, 7]].max())
    assert {each.images[0].get_clim() for each in axes.flat} == {(0, high)}
    found = jaxnmf.plots.residual((W, H), V, image=(2, 3), which=[0, 7])
    np.testing.assert_allclose(shown(found[1]), (V - X)[7].reshape(2, 3))
    reach = np.abs((V - X)[[0, 7]]).max()
    assert [each.images[0].get_clim() for each in found] == [(-reach, reach)] * 2


def test_six_rows_or_three_columns_are_shown():
    found = jaxnmf.plots.residual((W, H), dataset("images", column_image=(2, 3)))
    assert [a.get_title() for a in found] == [
        f"U, row {i}" for i in (0, 2, 4, 6, 8, 11)
    ]
    scene = dataset("spectra", row_image=(3, 4), wavelengths=np.arange(400.0, 406))
    axes = jaxnmf.plots.reconstruction((W, H), scene)
    assert [a.get_title() for a in axes[0]] == ["401 nm", "403 nm", "405 nm"]
    np.testing.assert_array_equal(shown(axes[0, 1]), V[:, 3].reshape(3, 4))
    np.testing.assert_allclose(shown(axes[1, 1]), X[:, 3].reshape(3, 4))
    found = jaxnmf.plots.residual((W, H), V, image=(3, 4), which=[5])
    assert found[0].get_title() == "U, column 5"
    np.testing.assert_allclose(shown(found[0]), (V - X)[:, 5].reshape(3, 4))
    (axes,) = jaxnmf.plots.residual((W, H), dataset("photo"))
    np.testing.assert_allclose(shown(axes), V - X)


def test_any_other_matrix_is_a_heat_map():
    labels = np.arange(12) % 2
    data = dataset("table", labels=labels)
    axes = jaxnmf.plots.reconstruction((W, H), data)
    order = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(shown(axes[0, 0]), V[order])
    np.testing.assert_allclose(shown(axes[1, 0]), X[order])
    assert axes[1, 0].images[0].get_clim() == (0, np.percentile(V, 99))
    sparse = csr_array(np.where(V > 0.4, V, 0))
    (axes,) = jaxnmf.plots.residual((W, H), sparse)
    dense = sparse.toarray()
    columns = np.argsort(-dense.sum(0), kind="stable")
    np.testing.assert_allclose(shown(axes), (dense - X)[:, columns])


def test_what_is_unknown_is_left_out():
    known = RNG.random(V.shape) < 0.5
    rows, cols = np.nonzero(known)
    observed = jaxnmf.Observed(rows, cols, V[known], V.shape)
    expected = np.where(known, V - X, np.nan)
    (axes,) = jaxnmf.plots.residual((W, H), observed, image=(2, 3), which=[3])
    np.testing.assert_allclose(shown(axes), expected[3].reshape(2, 3))
    (axes,) = jaxnmf.plots.residual((W, H), observed, image=(3, 4), which=[1])
    np.testing.assert_allclose(shown(axes), expected[:, 1].reshape(3, 4))
    axes = jaxnmf.plots.residual_size((W, H), observed, image=(2, 3))
    mean = np.sqrt(np.nanmean(expected**2, axis=0)).reshape(2, 3)
    np.testing.assert_allclose(shown(axes), mean)
    axes = jaxnmf.plots.residual_size((W, H), np.where(known, V, np.nan), image=(2, 3))
    np.testing.assert_allclose(shown(axes), mean)
    ratings = dataset("ratings", V=observed)
    assert size_of((W, H), ratings).sums.sum() == pytest.approx(np.nansum(expected**2))


def test_offsets_are_part_of_the_approximation():
    result = jaxnmf.factorize(V, 2, mask=np.ones(V.shape), offsets=True, max_iter=5)
    (axes,) = jaxnmf.plots.residual(result, V, image=(2, 3), which=[4])
    U = result.residual(V)
    np.testing.assert_allclose(shown(axes), U[4].reshape(2, 3), atol=1e-6)
    assert size_of(result, V).sums.sum() == pytest.approx((U**2).sum(), rel=1e-5)


@pytest.mark.parametrize("shape", [(12, 6), (6, 12)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "observed", "unknown"])
def test_sums_of_squares_are_those_of_the_dense_residual(shape, kind, monkeypatch):
    monkeypatch.setattr("jaxnmf.plots.squares.ENTRIES", 20)  # several steps
    w, h = (W, H) if shape == (12, 6) else (H.T, W.T)
    v = np.where(RNG.random(shape) < 0.4, RNG.random(shape), 0)
    U, known = v - w @ h, np.ones(shape, bool)
    given: Any = v
    if kind == "sparse":
        given = csr_array(v)
    elif kind == "observed":
        known, given = v > 0, jaxnmf.Observed(*np.nonzero(v), v[v > 0], shape)
    elif kind == "unknown":
        known, given = v > 0, np.where(v > 0, v, np.nan)
    rows, columns = RNG.permutation(shape[0]) % 3, RNG.permutation(shape[1]) % 4
    sums, counts = squares(given, w, h, rows, columns)
    expected = np.zeros((2, 3, 4))
    for i, j in np.argwhere(known):
        expected[:, rows[i], columns[j]] += [U[i, j] ** 2, 1.0]
    np.testing.assert_allclose([sums, counts], expected)


def test_where_the_residual_is():
    axes = jaxnmf.plots.residual_size((W, H), dataset("images", column_image=(2, 3)))
    mean = np.sqrt(((V - X) ** 2).mean(0)).reshape(2, 3)
    np.testing.assert_allclose(shown(axes), mean)
    axes = jaxnmf.plots.residual_size((W, H), V, image=(3, 4))
    np.testing.assert_allclose(
        shown(axes), np.sqrt(((V - X) ** 2).mean(1)).reshape(3, 4)
    )
    labels = np.arange(12) % 2
    data = dataset("genes", labels=labels, label_names=("a", "b"))
    axes = jaxnmf.plots.residual_size((W, H), data)
    np.testing.assert_allclose(
        shown(axes), np.abs(V - X)[np.argsort(labels, kind="stable")]
    )
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    sparse = csr_array(np.where(V > 0.4, V, 0))
    axes = jaxnmf.plots.residual_size((W, H), sparse)
    dense = sparse.toarray()
    rows, columns = (np.argsort(-(dense > 0).sum(i), kind="stable") for i in (1, 0))
    np.testing.assert_allclose(shown(axes), np.abs(dense - X)[np.ix_(rows, columns)])


def test_the_distribution_of_the_residual():
    axes = jaxnmf.plots.residual_histogram((W, H), V)
    counts, edges, _ = axes.patches[0].get_data()
    U = (V - X).ravel()
    assert edges[0] == -edges[-1] == -np.abs(U).max()
    np.testing.assert_array_equal(counts, np.histogram(U, edges)[0])
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "U = V − W H"


def test_a_large_sparse_matrix_is_never_made_dense(monkeypatch):
    m, n = 300_000, 2_000
    big = csr_array(random_array((m, n), density=1e-5, rng=0))
    made, toarray = [], csr_array.toarray

    def counted(self, *args, **kwargs):
        made.append(self.shape[0] * self.shape[1])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(csr_array, "toarray", counted)
    factors = RNG.random((m, 2)), RNG.random((2, n))
    jaxnmf.plots.residual(factors, big)
    jaxnmf.plots.residual_size(factors, big)
    axes = jaxnmf.plots.residual_histogram(factors, big)
    assert axes.patches[0].get_data().values.sum() == 1000 * n
    assert made
    assert max(made) <= samples.ENTRIES


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("residual", {"V": V.T}, r"V has shape \(6, 12\); .* \(12, 6\)"),
        ("residual", {"image": (2, 2)}, r"image=\(2, 2\) must be .* 6, .* or 12"),
        ("residual_size", {"image": (2, 2)}, r"image=\(2, 2\) must be"),
        ("residual", {"which": [1]}, "which: V has no rows"),
        ("residual", {"which": [12], "image": (2, 3)}, r"within 0 … 11, rows of V"),
        ("residual", {"which": [], "image": (2, 3)}, "a list of integers"),
        (
            "reconstruction",
            {"ax": Figure().subplots(), "which": [1], "image": (2, 3)},
            "1 axes for 2 pictures of V and W H",
        ),
        ("residual_histogram", {"ax": 3}, "ax is a int"),
    ],
)
def test_arguments_that_do_not_fit(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(jaxnmf.plots, function)((W, H), **{"V": V, **arguments})
