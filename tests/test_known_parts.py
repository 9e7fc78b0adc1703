"""Known parts of the factors, against SciPy's nnls and bounded minimisation."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize, nnls

import jaxnmf
from jaxnmf.experiment.cli import main

M, N, P = 14, 10, 3
RNG = np.random.default_rng(0)
W, H = RNG.gamma(0.6, size=(M, P)), RNG.gamma(0.6, size=(P, N))
V = W @ H + 0.05 * RNG.random((M, N))
KNOWN_H = np.full((2, N), np.nan)
KNOWN_H[0], KNOWN_H[1, :4], KNOWN_H[1, 6] = H[0], H[1, :4], 0
KNOWN_W = np.full((M, P), np.nan)
KNOWN_W[:5, 2], KNOWN_W[7, 0] = W[:5, 2], 0
LONG = {"max_iter": 3000, "tol": 0, "kkt_tol": 1e-8, "dtype": "float64"}


def assert_held(found, known_W=KNOWN_W, known_H=KNOWN_H, rtol=0.0):
    for X, known in ((found.W[:, : known_W.shape[1]], known_W), (found.H, known_H)):
        X = X[: len(known)]
        at = ~np.isnan(known)
        np.testing.assert_allclose(X[at], known[at], rtol, rtol * known[at].max())


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_the_free_entries_are_the_best_there_are(loss):
    found = jaxnmf.factorize(
        V, P, loss=loss, known_W=KNOWN_W, known_H=KNOWN_H, l2=0.01, **LONG
    )
    assert_held(found)

    # From there a minimiser over the free entries alone finds nothing better.
    held = np.concatenate([KNOWN_W.ravel(), KNOWN_H.ravel(), np.full(N, np.nan)])
    free = np.isnan(held)
    x = np.concatenate([found.W.ravel(), found.H.ravel()])

    def objective(values):
        full = x.copy()
        full[free] = values
        A, B = full[: M * P].reshape(M, P), full[M * P :].reshape(P, N)
        X = A @ B
        fit = ((V - X) ** 2).sum() / 2
        if loss == "kl":
            fit = (V * np.log(V / X) - V + X).sum()
        return fit + 0.005 * (full**2).sum()

    assert found.objective == pytest.approx(objective(x[free]), rel=1e-9)
    best = minimize(
        objective, x[free], method="L-BFGS-B", bounds=[(1e-12, None)] * free.sum()
    )
    assert best.fun >= found.objective * (1 - 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "masked"])
def test_with_all_of_h_known_each_row_is_scipys_nnls(dtype, kind):
    mask = np.ones((M, N)) if kind == "masked" else None
    data = sp.csr_array(V) if kind == "sparse" else V
    found = jaxnmf.factorize(data, P, known_H=H, mask=mask, dtype=dtype)
    expected = np.stack([nnls(H.T, v)[0] for v in V])
    tolerance = 1e-6 if dtype == "float64" else 1e-4
    X = expected @ H
    np.testing.assert_allclose(found.W @ found.H, X, 0, tolerance * X.max())
    assert found.H.dtype == dtype
    np.testing.assert_allclose(found.H, H, 1e-6)
    # And of W known, the columns.
    turned = jaxnmf.factorize(data.T, P, known_W=H.T, dtype=dtype)
    np.testing.assert_allclose(turned.W @ turned.H, X.T, 0, tolerance * X.max())


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_known_components_of_any_scale_are_fitted(scale):
    whole = jaxnmf.factorize(V, P, known_H=H[:1], seed=1, max_iter=300, tol=0)
    other = jaxnmf.factorize(V, P, known_H=scale * H[:1], seed=1, max_iter=300, tol=0)
    np.testing.assert_allclose(other.H[0], scale * H[0], 1e-5)
    assert other.relative_error == pytest.approx(whole.relative_error, rel=0.02)


@pytest.mark.slow
def test_fewer_rows_than_known_components_are_no_exact_fit(recwarn):
    found = jaxnmf.factorize(V[:2], P, known_H=H, **LONG)
    expected = np.stack([nnls(H.T, v)[0] for v in V[:2]])
    np.testing.assert_allclose(found.W, expected, atol=1e-6)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="can fit exactly"):
        jaxnmf.factorize(V[:2], P, max_iter=1)


@pytest.mark.slow
def test_lanes_and_saved_results_keep_them(tmp_path):
    found = jaxnmf.sweep(V, [2, P], seeds=2, known_H=H[:2], folder=tmp_path / "lanes")
    for rank in (2, P):
        np.testing.assert_allclose(found.best(rank).H[:2], H[:2], 1e-6)
    with pytest.raises(ValueError, match="folder="):
        jaxnmf.sweep(V, [2, P], seeds=2, known_H=H[1:], folder=tmp_path / "lanes")
    single = jaxnmf.factorize(V, P, known_W=KNOWN_W, solver="hals")
    kept = jaxnmf.load(single.save(tmp_path / "a.npz"))
    np.testing.assert_array_equal(kept.W, single.W)
    # Of new rows nothing is known.
    assert kept.transform(V[:3]).shape == (3, P)


def test_offsets_do_not_count_as_components():
    mask = RNG.random((M, N)) < 0.9
    found = jaxnmf.factorize(
        V, P, mask=mask, offsets=True, known_W=KNOWN_W, known_H=KNOWN_H, solver="hals"
    )
    assert_held(found, rtol=1e-6)
    assert found.offsets.rows.shape == (M,)


def test_an_estimator_holds_its_components():
    model = jaxnmf.NMF(P, known_H=KNOWN_H, random_state=0)
    model.fit(V)
    assert_held(type("F", (), {"W": KNOWN_W, "H": model.components_}), rtol=1e-6)


@pytest.mark.slow
def test_a_study_holds_what_a_file_has(tmp_path):
    path = tmp_path / "known.csv"
    pd.DataFrame(np.full((1, 8), 0.5)).to_csv(path, index=False, header=False)
    arguments = ["dataset=synthetic", "dataset.m=12", "dataset.n=8", "solver=hals"]
    arguments += [
        "ranks=[2]",
        "seeds=[0]",
        f"known_H={path}",
        f"folder={tmp_path / 'x'}",
    ]
    assert main(["run", *arguments]) == 0
    (factors,) = (tmp_path / "x").rglob("factors.npz")
    with np.load(factors) as stored:
        H = next(stored[name] for name in stored if stored[name].shape == (2, 8))
    np.testing.assert_allclose(H[0], 0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"known_H": H[:, :4]}, r"known_H has shape \(3, 4\); for a V of n = 10"),
        ({"known_W": W[:4]}, r"known_W has shape \(4, 3\); for a V of m = 14"),
        ({"known_H": np.ones((4, N))}, r"known_H has shape \(4, 10\).*k ≤ 3"),
        ({"known_H": -H}, "known_H holds negative entries"),
        ({"known_H": np.full((1, N), np.inf)}, "known_H has an infinite entry"),
        ({"known_H": H[0]}, "known_H"),
        ({"known_W": W, "known_H": H}, "nothing is free"),
        ({"known_H": KNOWN_H, "solver": "als"}, "known_H: solver 'als' does not"),
        ({"known_W": KNOWN_W, "solver": "semi"}, "known_W: solver 'semi' does not"),
        ({"known_H": 2 + H, "constraints": "box"}, "known_H holds entries above"),
        ({"known_H": 2 + H[:2], "constraints": "simplex"}, "known shares"),
    ],
)
def test_what_does_not_fit_is_refused(given, message, monkeypatch):
    monkeypatch.setattr("jaxnmf.run.programs.compiled", None)
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(V, P, **given)
