"""W of new rows for an H that is known: `fit_W`, and a `Result` or an `NMF` whose H was
replaced. The right W is SciPy's, row by row."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import jaxnmf
from jaxnmf import fold_in, tiny

M, N, P = 12, 20, 3
RNG = np.random.default_rng(3)
H = RNG.gamma(1.0, size=(P, N))
V = RNG.gamma(1.0, size=(M, P)) @ H * RNG.uniform(0.6, 1.4, (M, N))
KNOWN = RNG.random((M, N)) < 0.7


def right(V: Any, H: Any, *, l1: float = 0, l2: float = 0, weights: Any = None) -> Any:
    """argmin over w ≥ 0 of ½ Σ g (v − w H)² + l1 Σ w + ½ l2 ‖w‖², row by row."""
    g = np.ones(np.shape(V)) if weights is None else np.asarray(weights, float)
    rows = []
    for v, root in zip(np.asarray(V, float), np.sqrt(g), strict=True):
        A = np.vstack([(H * root).T, np.sqrt(l2) * np.eye(len(H))])
        b = np.concatenate([v * root, np.zeros(len(H))])
        # The linear term, by completing the square in the range of Aᵀ.
        b = b - np.linalg.pinv(A).T @ np.full(len(H), l1)
        rows.append(scipy.optimize.nnls(A, b)[0])
    return np.stack(rows)


def assert_same(found: Any, expected: np.ndarray, rtol: float = 1e-4) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=rtol * expected.max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "like"),
    [
        ({}, {}),
        ({"dtype": "float64"}, {}),
        ({"l1": 2.0, "l2": 3.0}, {"l1": 2.0, "l2": 3.0}),
        ({"mask": KNOWN}, {"weights": KNOWN}),
    ],
)
def test_fit_w_is_scipys_nnls(given, like):
    W = jaxnmf.fit_W(V, H, **given)
    assert W.dtype == np.dtype(given.get("dtype", "float32"))
    assert_same(W, right(V, H, **like))


def test_fit_w_of_sparse_and_observed_data():
    few = np.where(np.median(V) < V, V, 0)
    assert_same(jaxnmf.fit_W(sp.csr_array(few), H), right(few, H))
    rows, cols = np.nonzero(KNOWN)
    observed = jaxnmf.Observed(rows, cols, V[rows, cols], V.shape)
    assert_same(jaxnmf.fit_W(observed, H), right(V, H, weights=KNOWN))


@pytest.mark.slow
def test_components_that_overlap_are_distinguished():
    # Neighbouring peaks: coordinate descent alone stops with W off by some per cent.
    x = np.arange(200)
    peaks = np.exp(-0.5 * ((x - np.linspace(20, 180, 12)[:, None]) / 15) ** 2)
    spectra = RNG.gamma(0.5, size=(M, 12)) @ peaks
    spectra = np.maximum(spectra + 0.05 * RNG.standard_normal(spectra.shape), 0)
    assert_same(jaxnmf.fit_W(spectra, peaks), right(spectra, peaks), 1e-3)
    result = jaxnmf.factorize(spectra, 12, max_iter=10)
    known = dataclasses.replace(result, H=peaks)
    assert_same(known.transform(spectra), right(spectra, peaks), 1e-3)


def test_fit_w_of_other_losses_is_stationary():
    W = jaxnmf.fit_W(V, H, loss="kullback-leibler", dtype="float64")
    gradient = H.sum(1) - V / (W @ H) @ H.T
    assert np.abs(np.minimum(W, gradient)).max() < 1e-2


def test_what_fit_w_cannot_tell():
    # A component of zeros adds nothing; a row without data is like the others.
    with_zeros = np.vstack([H, np.zeros(N)])
    assert_same(jaxnmf.fit_W(V, with_zeros), np.c_[right(V, H), np.zeros(M)])
    mask = np.ones((M, N))
    mask[4] = 0
    W = jaxnmf.fit_W(V, H, mask=mask)
    np.testing.assert_allclose(W[4], np.delete(W, 4, 0).mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("data", "known", "given", "words"),
    [
        (V, H[:, 1:], {}, r"V has shape \(12, 20\) and H \(3, 19\).* need 19"),
        (V, H[0], {}, r"H: shape \(20,\) is not 2-D"),
        (V, -H, {}, "H holds negative entries"),
        (V, H * np.nan, {}, "H holds NaN"),
        (V, np.zeros((0, N)), {}, "H has no components"),
        (-V, H, {}, "V of shape .* holds negative"),
        (V, H, {"l1": -1.0}, "l1=-1.0 must be"),
        (V, H, {"dtype": "int8"}, "dtype='int8'"),
        (V, H, {"loss": "frobenus"}, "did you mean 'frobenius'"),
    ],
)
def test_what_does_not_fit_is_refused(data, known, given, words):
    with pytest.raises(ValueError, match=words):
        jaxnmf.fit_W(data, known, **given)


# --- A replaced H ---------------------------------------------------------------------


@pytest.mark.parametrize("components", [P, P + 2])
def test_a_replaced_h_is_what_new_rows_are_fitted_with(components):
    result = jaxnmf.factorize(V, P, max_iter=20)
    other = RNG.gamma(1.0, size=(components, N))
    replaced = dataclasses.replace(result, H=other)
    assert_same(replaced.transform(V), right(V, other))
    folded = replaced.fold_in(V)
    assert_same(folded.W, right(V, other))
    np.testing.assert_allclose(folded.H, other, rtol=1e-6)


def test_a_replaced_h_keeps_its_penalties_and_offsets():
    result = jaxnmf.factorize(V, P, max_iter=20, l2=2.0, mask=KNOWN, offsets=1.0)
    other = RNG.gamma(1.0, size=(P, N))
    replaced = dataclasses.replace(result, H=other)
    folded = replaced.fold_in(V, mask=KNOWN, tol=1e-9)
    # Row offsets are fitted with W, column offsets are held.
    assert result.offsets is not None
    assert folded.offsets is not None
    np.testing.assert_array_equal(folded.offsets.cols, result.offsets.cols)
    rest = V - folded.offsets.rows[:, None] - folded.offsets.cols
    rows = right(rest, other, l2=2.0, weights=KNOWN)
    assert_same(folded.W, rows, 1e-3)


def test_components_set_by_hand_are_what_transform_uses():
    other = RNG.gamma(1.0, size=(P, N))
    model = jaxnmf.NMF(P, random_state=0, tol=1e-2).fit(V)
    model.components_ = other
    W = model.transform(V)
    assert_same(W, right(V, other))
    np.testing.assert_allclose(model.inverse_transform(W), W @ other, rtol=1e-6)
    unfitted = jaxnmf.NMF(alpha_W=3.0 / N)
    unfitted.components_ = other
    assert_same(unfitted.transform(V), right(V, other, l2=3.0))


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (H[:, 1:], r"components_ has shape \(3, 19\)"),
        (-H, "components_ holds negative entries"),
        ("peaks", "components_: str is not numeric"),
    ],
)
def test_components_that_do_not_fit_are_refused(known, words):
    model = jaxnmf.NMF(P, random_state=0, tol=1e-2).fit(V)
    model.components_ = known
    with pytest.raises(ValueError, match=words):
        model.transform(V)


def test_rows_of_blocks_have_the_W_of_the_rows_in_memory():
    blocks = jaxnmf.Blocks(V, rows=5)
    assert_same(jaxnmf.fit_W(blocks, H), right(V, H))
    result = dataclasses.replace(jaxnmf.factorize(V, P, max_iter=20), H=H)
    assert_same(result.transform(blocks), right(V, H))
    found, scaled = result.fold_in(blocks), 1e-30 * V.astype(float)
    assert_same(found.W, right(V, H))
    off = V - right(V, H) @ H
    np.testing.assert_allclose(found.objective, 0.5 * (off**2).sum(), rtol=1e-3)
    error = np.linalg.norm(off) / np.linalg.norm(V)
    np.testing.assert_allclose(found.relative_error, error, rtol=1e-3)
    assert found.trace.objective[0] > found.trace.objective[1] == found.objective
    assert (found.status, found.iterations) == ("converged", found.trace.iteration[-1])
    cut = result.fold_in(blocks, max_iter=1, tol=0, pad=False)
    assert cut.status == "max_iter"
    small = dataclasses.replace(result, H=1e-15 * H)
    tiny = small.fold_in(jaxnmf.Blocks(scaled, rows=5))
    np.testing.assert_allclose(tiny.relative_error, error, rtol=1e-3)
    for call in (
        lambda: jaxnmf.fit_W(blocks, H, mask="nan"),
        lambda: result.transform(blocks, mask="nan"),
    ):
        with pytest.raises(ValueError, match="mask: V is Blocks"):
            call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_many_rows_are_solved_at_once(dtype, overlapping, monkeypatch):
    monkeypatch.setattr(fold_in, "MANY", 1)
    monkeypatch.setattr(tiny, "TINY", 0)
    apart = np.eye(6).repeat(3, axis=1)
    own_H = RNG.random((6, 18)) + (1 if overlapping else 5 * apart)
    assert fold_in.overlap(own_H) == overlapping
    own_V = RNG.random((50, 6)) @ own_H + RNG.standard_normal((50, own_H.shape[1]))
    own_V = np.maximum(own_V, 0)
    known = RNG.random(own_V.shape) < 0.8
    known[:, :6] = True
    for mask in (None, known):
        W = jaxnmf.fit_W(own_V, own_H, mask=mask, dtype=dtype)
        expected = right(own_V, own_H, weights=mask)
        close = {"float32": 1e-4, "float64": 1e-9}[dtype] * own_V.max()
        np.testing.assert_allclose(W @ own_H, expected @ own_H, rtol=0, atol=close)
    found = jaxnmf.factorize(V, P, max_iter=20, dtype=dtype).fold_in(V)
    assert found.status == "converged"
    assert found.iterations <= 2
