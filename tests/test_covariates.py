"""Covariates, batches and targets, against SciPy's bounded minimisation and nnls."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, nnls

import jaxnmf
from jaxnmf.experiment.cli import main
from jaxnmf.plots.residual_size import size_of

M, N, P = 14, 10, 3
RNG = np.random.default_rng(0)
W, H = RNG.gamma(0.6, size=(M, P)), RNG.gamma(0.6, size=(P, N))
DOSE, SLOPE = RNG.random((M, 1)), RNG.random((1, N))
LABELS = ["a", "b"] * (M // 2)
SHIFTS = RNG.gamma(1.0, size=(2, N))
IN_BATCH = np.array(LABELS)[:, None] == np.array(["a", "b"])
C = np.hstack([DOSE, IN_BATCH])
V = W @ H + C @ np.vstack([SLOPE, SHIFTS]) + 0.05 * RNG.random((M, N))
TARGET = RNG.random((2, N))
LONG = {"max_iter": 3000, "tol": 0, "kkt_tol": 1e-8, "dtype": "float64"}


@pytest.mark.parametrize(("loss", "solver"), [("frobenius", "auto"), ("kl", "pgd-lin")])
def test_what_is_free_is_the_best_there_is(loss, solver):
    found = jaxnmf.factorize(
        V,
        P,
        loss=loss,
        solver=solver,
        covariates=DOSE,
        batch=LABELS,
        toward=(None, TARGET),
        l2=(0.01, 0.1),
        **LONG,
    )
    own = found.covariates
    np.testing.assert_array_equal(own.W, C)
    assert own.names.tolist() == ["0", "a", "b"]
    assert own.batch.tolist() == [False, True, True]
    assert (found.W.shape, found.H.shape, own.H.shape) == ((M, P), (P, N), (3, N))

    # From there a minimiser over all that is free finds nothing better.
    targets = np.vstack([TARGET, np.zeros((4, N))])

    def objective(values):
        A = np.hstack([values[: M * P].reshape(M, P), C])
        B = values[M * P :].reshape(P + 3, N)
        X = A @ B
        fit, slope = ((V - X) ** 2).sum() / 2, X - V
        if loss == "kl":
            fit, slope = (V * np.log(V / X) - V + X).sum(), 1 - V / X
        value = fit + 0.005 * (A**2).sum() + 0.05 * ((B - targets) ** 2).sum()
        of_A = (slope @ B.T + 0.01 * A)[:, :P]
        of_B = A.T @ slope + 0.1 * (B - targets)
        return value, np.concatenate([of_A.ravel(), of_B.ravel()])

    x = np.concatenate([found.W.ravel(), found.H.ravel(), own.H.ravel()])
    assert found.objective == pytest.approx(objective(x)[0], rel=1e-9)
    bounds = [(1e-12, None)] * len(x)
    best = minimize(objective, x, jac=True, method="L-BFGS-B", bounds=bounds)
    assert best.fun >= found.objective * (1 - 2e-5)

    # All that the result says of V has the covariates in it.
    X = found.W @ found.H + C @ own.H
    error = np.linalg.norm(V - X) / np.linalg.norm(V)
    assert found.relative_error == pytest.approx(error, rel=1e-9)
    np.testing.assert_allclose(found.residual(V), V - X, 0, 1e-12)
    np.testing.assert_allclose(found.predict(2, np.arange(N)), X[2], 1e-12)
    pictured = size_of(found, V, image=(2, 5)).sums.ravel()
    np.testing.assert_allclose(pictured, ((V - X) ** 2).sum(0), 1e-9)
    with pytest.raises(ValueError, match="start has covariates"):
        jaxnmf.fixed_point(V, P, start=found)


def test_the_effect_of_a_batch_is_taken_out():
    # V has a rank of P + 2.
    clean = W @ H
    V = clean + IN_BATCH @ (3 * SHIFTS)
    found = jaxnmf.factorize(V, P, seed=1, init="random", batch=LABELS, **LONG)
    assert found.relative_error < 1e-5
    left = V - found.covariates.W @ found.covariates.H
    # A batch may take a part of every column that all of its rows have.
    apart = left - clean
    assert np.abs(apart[::2] - apart[0]).max() < 1e-3
    assert np.abs(apart[1::2] - apart[1]).max() < 1e-3


@pytest.mark.slow
def test_new_rows_have_covariates_of_their_own(tmp_path):
    found = jaxnmf.factorize(V, P, covariates=DOSE, batch=LABELS, dtype="float64")
    found = jaxnmf.load(found.save(tmp_path / "a.npz"))
    new = found.transform(V[:3], covariates=DOSE[:3], batch=["b", "a", "b"])
    effects = DOSE[:3] @ found.covariates.H[:1] + found.covariates.H[[2, 1, 2]]
    expected = np.stack([nnls(found.H.T, v)[0] for v in V[:3] - effects])
    np.testing.assert_allclose(new, expected, 0, 1e-6 * expected.max())
    again = found.fold_in(V[:3], covariates=DOSE[:3], batch=["b", "a", "b"])
    X = expected @ found.H + effects
    np.testing.assert_allclose(again.residual(V[:3]), V[:3] - X, 0, 1e-6)
    for name, lacks in (("covariates", {"batch": LABELS}), ("batch", {})):
        with pytest.raises(ValueError, match=f"{name}: this result has"):
            found.transform(V, **{"covariates": DOSE, **lacks} | {name: None})
    with pytest.raises(ValueError, match="'c' is none of those that were fitted, a, b"):
        found.transform(V[:1], covariates=DOSE[:1], batch=["c"])
    with pytest.raises(ValueError, match="covariates has 2 columns; this result has 1"):
        found.transform(V, covariates=np.hstack([DOSE, DOSE]), batch=LABELS)
    plain = jaxnmf.factorize(V, P, max_iter=1)
    with pytest.raises(ValueError, match="batch: this result has none"):
        plain.transform(V, batch=LABELS)


@pytest.mark.slow
def test_lanes_have_the_same_and_a_folder_knows_them(tmp_path):
    given = {"covariates": DOSE, "batch": LABELS, "solver": "hals"}
    given |= {"toward": (None, TARGET), "l2": (0, 0.1)}
    lanes = jaxnmf.sweep(V, [2, P], 2, folder=tmp_path, **given)
    alone = jaxnmf.factorize(V, P, seed=1, init="random", **given)
    result = lanes.result(3)
    assert result.objective == pytest.approx(alone.objective, rel=1e-5)
    np.testing.assert_allclose(
        result.covariates.H, alone.covariates.H, 0, 1e-4 * alone.covariates.H.max()
    )
    for other in ({"batch": LABELS[::-1]}, {"toward": (None, 2 * TARGET)}):
        with pytest.raises(ValueError, match="folder="):
            jaxnmf.sweep(V, [2, P], 2, folder=tmp_path, **given | other)


def test_offsets_masks_and_held_entries_go_together():
    mask = RNG.random((M, N)) < 0.9
    mask[3] = False
    known_W = np.full((M, 1), np.nan)
    known_W[:4, 0] = 0.5
    found = jaxnmf.factorize(
        V, P, mask=mask, offsets=True, toward="mean", l2=0.1, covariates=DOSE,
        known_W=known_W, batch=LABELS, solver="hals",
    )  # fmt: skip
    own = found.covariates
    # Also in a row of which nothing was known.
    np.testing.assert_array_equal(found.W[:4, 0], 0.5)
    np.testing.assert_allclose(own.W, C, 1e-6)
    X = found.W @ found.H + own.W @ own.H
    X += found.offsets.rows[:, None] + found.offsets.cols
    np.testing.assert_allclose(found.residual(V), V - X, 0, 1e-5)


@pytest.mark.slow
def test_an_estimator_has_targets():
    found = []
    for toward in ((None, TARGET), TARGET):  # a matrix is one for H
        model = jaxnmf.NMF(P, toward=toward, alpha_H=1e4, alpha_W=0).fit(V)
        np.testing.assert_allclose(model.components_[:2], TARGET, 0, 1e-3)
        found.append(model.components_)
    np.testing.assert_array_equal(*found)
    assert model.transform(V[:2]).shape == (2, P)


@pytest.mark.slow
def test_a_study_reads_them(tmp_path):
    dose = pd.DataFrame({"dose": np.linspace(1, 2, 12)})
    dose.to_csv(tmp_path / "c.csv", index=False)
    pd.DataFrame(np.full((1, 8), 0.5)).to_csv(
        tmp_path / "t.csv", index=False, header=False
    )
    (tmp_path / "b.txt").write_text("\n".join(["x", "y"] * 6))
    arguments = ["dataset=synthetic", "dataset.m=12", "dataset.n=8", "solver=hals"]
    arguments += ["ranks=[2]", "seeds=[0]", f"covariates={tmp_path / 'c.csv'}"]
    arguments += [f"batch={tmp_path / 'b.txt'}", "l2=[0,1e6]"]
    arguments += [f"toward=[null,{tmp_path / 't.csv'}]", f"folder={tmp_path / 'x'}"]
    assert main(["run", *arguments]) == 0
    (factors,) = (tmp_path / "x").rglob("factors.npz")
    with np.load(factors) as stored:
        W, H = (stored[name] for name in sorted(stored.files, reverse=True))
    # Those of the covariates are the last.
    assert W.shape == (12, 5)
    np.testing.assert_allclose(W[:, 2], np.linspace(1, 2, 12), 1e-6)
    np.testing.assert_array_equal(W[:, 3], [1, 0] * 6)
    np.testing.assert_allclose(H[0], 0.5, 1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"covariates": DOSE[:4]}, r"covariates has shape \(4, 1\); for a V of m = 14"),
        ({"covariates": -DOSE}, "covariates holds negative entries"),
        ({"covariates": DOSE * np.nan}, "covariates has NaN"),
        ({"covariates": 0 * DOSE}, "covariates: column 0 is 0 in every row"),
        ({"covariates": DOSE[:, 0]}, "covariates: shape"),
        ({"covariates": DOSE, "batch": LABELS[1:]}, "14 rows and batch 13 labels"),
        ({"batch": LABELS[1:]}, "batch has 13 labels; for a V of m = 14"),
        ({"batch": "ab"}, "batch='ab': it must be a list of labels"),
        ({"batch": [*LABELS[1:], None]}, "batch: the label of row 13 is missing"),
        ({"batch": [*LABELS[1:], []]}, "batch: entry 13 is a list"),
        ({"batch": [*LABELS[2:], 1, "1"]}, "batch: the labels 1 and '1' have one name"),
        ({"batch": LABELS, "solver": "semi"}, "batch: solver 'semi' does not support"),
        ({"batch": LABELS, "constraints": "simplex"}, "batch with the constraint"),
        ({"toward": TARGET[0], "l2": 1}, "toward: ndarray is not a pair"),
        ({"toward": "middle"}, "toward='middle' must be one of zero, mean"),
        ({"toward": (None, TARGET)}, "target for H, and l2 for H is 0"),
        ({"toward": (TARGET, None), "l2": 1}, r"toward for W has shape \(2, 10\)"),
        ({"toward": (None, -TARGET), "l2": 1}, "toward for H holds negative"),
        (
            {"toward": (None, TARGET), "l2": 1, "solver": "ao-admm"},
            "toward: solver 'ao-admm' does not support targets",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given, message, monkeypatch):
    monkeypatch.setattr("jaxnmf.run.programs.compiled", None)
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(V, P, **given)


@pytest.mark.parametrize("name", ["known_W", "covariates", "batch"])
def test_blocks_have_none(name):
    given = {"known_W": W, "covariates": DOSE, "batch": LABELS}[name]
    with pytest.raises(ValueError, match=f"{name}: V in blocks of rows"):
        jaxnmf.factorize(jaxnmf.Blocks(V), P, **{name: given})
