"""Baselines: driven by their registry, against each system's own public call."""

import dataclasses
import importlib.metadata
import sys

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import jaxnmf
from jaxnmf import baselines, build
from jaxnmf.baselines import base
from jaxnmf.registry import make_loss, options, solvers
from jaxnmf.run import programs
from jaxnmf.run.stop import Stop
from jaxnmf.supported import UnsupportedError
from jaxnmf.types import Status

pytestmark = [
    # What the systems themselves do at import and in every step.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.cholesky:UserWarning"),
]
M, N, P = 30, 21, 4
LOSSES = ("frobenius", "kullback-leibler")
PAIRS = [
    (name, loss)
    for name in baselines.names()
    for loss in LOSSES
    if baselines.baseline_class(name).supports.includes(make_loss(loss))
]


def made(name: str, **given):
    """A baseline whose package is here."""
    baseline = baselines.make(name, given)
    if baseline.requires is not None and not base.installed(baseline.requires):
        pytest.skip(f"{baseline.requires} is not installed")
    return baseline


def data(dtype="float64", sparse=False):
    rng = np.random.default_rng(0)
    V = rng.random((M, P)) @ rng.random((P, N)) + 0.1 * rng.random((M, N))
    if sparse:
        V = scipy.sparse.csr_array(V * (rng.random((M, N)) < 0.3))
    W, H = rng.random((M, P)) + 0.1, rng.random((P, N)) + 0.1
    return V.astype(dtype), W.astype(dtype), H.astype(dtype)


def run(baseline, loss="frobenius", dtype="float64", sparse=False, kkt=True, **stop):
    V, W, H = data(dtype, sparse)
    every = stop.pop("record_every", 5)
    with programs.precision(dtype) as kind:
        objective = build.Objective.of(loss)
        problem = build.make_problem(V, baseline, objective, kind)
        start = build.Start.of((W, H))
        factors = build.draw_start(problem, objective, start, P)
        stop = Stop(**{"max_iter": 20, "tol": 0.0, **stop})
        return baselines.timed(
            problem, baseline, factors, stop, record_every=every, kkt=kkt
        )


def loss_of(V, W, H, loss):
    """In float64 NumPy."""
    V, X = np.asarray(V, np.float64), W.astype(np.float64) @ H
    if loss == "frobenius":
        return 0.5 * np.sum((V - X) ** 2)
    return np.sum(scipy.special.kl_div(V, X))


def test_names_are_apart_from_solvers():
    assert {"sklearn-cd", "sklearn-mu", "numpy-hals"} <= set(baselines.names())
    assert not set(baselines.names()) & set(solvers())


@pytest.mark.parametrize(("name", "loss"), PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_chunks_are_one_of_both(name, loss, dtype):
    baseline = made(name)
    V, W, H = data(dtype)
    found = []
    for chunks in ((6,), (3, 3)):
        state = baseline.start(V, make_loss(loss), W.copy(), H.copy())
        for chunk in chunks:
            state = baseline.advance(state, chunk)
        found.append([np.array(x) for x in baseline.factors(state)])
    for whole, parts in zip(*found, strict=True):
        # PLANC's factors by Cholesky are rounded differently from call to call.
        rtol = 1e-9 if name == "pyplanc-bpp" else 0
        np.testing.assert_allclose(whole, parts, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("name", "loss"), PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_starts_at_the_given_factors_and_is_monotone(name, loss, dtype):
    V, W, H = data(dtype)
    found = run(made(name), loss, dtype)
    trace = found.trace
    assert trace.objective[0] == pytest.approx(loss_of(V, W, H, loss), rel=1e-5)
    Wt, X = (np.asarray(x) for x in found.factors)
    assert Wt.dtype == X.dtype == dtype
    assert trace.objective[-1] == pytest.approx(loss_of(V, Wt.T, X, loss), rel=1e-3)
    assert min(Wt.min(), X.min()) >= 0
    assert (np.diff(trace.objective) <= 1e-5 * trace.objective[0]).all()
    assert trace.objective[-1] < 0.2 * trace.objective[0]
    assert np.isfinite(trace.kkt).all()
    assert (trace.iteration == [0, 5, 10, 15, 20]).all()
    assert (np.diff(trace.seconds) > 0).all()
    assert found.compile_seconds > 0


@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_sparse_data_give_what_dense_data_give(name, loss):
    baseline = made(name)
    if "sparse" not in baseline.supports.operands:
        with pytest.raises(UnsupportedError, match="on sparse data; solvers that do"):
            run(baseline, loss, sparse=True)
        return
    V, W, H = data(sparse=True)
    states = [
        baseline.advance(baseline.start(x, make_loss(loss), W.copy(), H.copy()), 5)
        for x in (V, V.toarray())
    ]
    for sparse, dense in zip(*map(baseline.factors, states), strict=True):
        np.testing.assert_allclose(sparse, dense, rtol=1e-8, atol=1e-10)
    assert run(baseline, loss, sparse=True).trace.objective[-1] > 0


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("name", "loss", "options"),
    [
        ("sklearn-cd", "frobenius", {}),
        ("sklearn-mu", "frobenius", {}),
        ("sklearn-mu", "kullback-leibler", {}),
        ("sklearn-mu", "itakura-saito", {}),
        ("sklearn-mu", "beta", {"beta": 2.5}),
    ],
)
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_scikit_learn_agrees_with_its_public_call(name, loss, options, sparse):
    from sklearn.decomposition import NMF

    if sparse and loss not in LOSSES:
        pytest.skip("asked of a dense V")
    V, W, H = data(sparse=sparse)
    made_loss = make_loss(loss, options)
    settings = {} if name == "sklearn-cd" else {"beta_loss": made_loss.beta}
    model = NMF(P, init="custom", solver=name[-2:], tol=0, max_iter=12, **settings)
    expected = model.fit_transform(V, W=W.copy(), H=H.copy()), model.components_
    baseline = made(name)
    found = baseline.factors(
        baseline.advance(baseline.start(V, made_loss, W.copy(), H.copy()), 12)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["numpy-hals", "nmf-rs-hals"])
def test_their_hals_has_the_iterates_of_ours(name):
    V, W, H = data()
    result = jaxnmf.factorize(
        V, P, solver="hals", solver_options={"inner": 1}, init=(W, H), max_iter=15,
        tol=0.0, dtype="float64",
    )  # fmt: skip
    Wt, found = run(made(name), max_iter=15).factors
    # nmf-rs has 1e-9 in place of 0.
    np.testing.assert_allclose(np.asarray(Wt).T, result.W, rtol=1e-7, atol=2e-9)
    np.testing.assert_allclose(np.asarray(found), result.H, rtol=1e-7, atol=2e-9)


@pytest.mark.parametrize(
    ("name", "loss"), [pair for pair in PAIRS if pair[0].startswith("nimfa")]
)
def test_nimfa_agrees_with_its_public_call(name, loss):
    baseline = made(name)
    V, W, H = data()
    state = baseline.start(V, make_loss(loss), W, H)  # mends nimfa for NumPy 2
    nimfa = pytest.importorskip("nimfa")
    settings = {}
    if name == "nimfa-nmf":
        kind = {"frobenius": "euclidean", "kullback-leibler": "divergence"}[loss]
        settings = {"update": kind, "min_residuals": None}
    cls = {"nimfa-nmf": nimfa.Nmf, "nimfa-lsnmf": nimfa.Lsnmf}[name]
    model = cls(V.copy(), W=W, H=H, rank=P, max_iter=8, **settings)().fit
    found = baseline.factors(baseline.advance(state, 8))
    np.testing.assert_allclose(found[0], model.W, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[1], model.H, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [2, 1, 0, 0.5, 3])
def test_torchnmf_agrees_with_its_public_call(beta):
    baseline = made("torchnmf")
    torch = pytest.importorskip("torch")
    NMF = pytest.importorskip("torchnmf.nmf").NMF
    V, W, H = data("float32")
    model = NMF(W=torch.tensor(H.T), H=torch.tensor(W))
    model.fit(torch.tensor(V), beta=beta, tol=-np.inf, max_iter=12)
    loss = make_loss("beta", {"beta": float(beta)})
    found = baseline.factors(baseline.advance(baseline.start(V, loss, W, H), 12))
    np.testing.assert_allclose(found[0], model.H.detach(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1].T, model.W.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "loss"), [pair for pair in PAIRS if pair[0].startswith("nmf-torch")]
)
def test_nmf_torch_agrees_with_its_public_call(name, loss):
    baseline = made(name)
    torch = pytest.importorskip("torch")
    run_nmf = pytest.importorskip("nmf").run_nmf
    V, _, _ = data("float32")
    call = {
        "beta_loss": loss,
        "init": "random",
        "algo": {"hals": "halsvar"}.get(name[10:], name[10:]),
        "tol": 0.0,
        "random_state": 3,
        "batch_max_iter": 10,
    }
    expected = run_nmf(V, P, **call)[:2]
    # The start it draws: W of ours, then H.
    torch.manual_seed(3)
    scale = torch.sqrt(torch.tensor(V).mean() / P)
    W = torch.abs(scale * torch.randn((M, P))).numpy()
    H = torch.abs(scale * torch.randn((P, N))).numpy()
    state = baseline.start(V, make_loss(loss), W, H)
    found = baseline.factors(baseline.advance(state, 10))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "loss", "method"),
    [
        ("nmf-rs-hals", "frobenius", "hals"),
        ("nmf-rs-mu", "frobenius", "lee"),
        ("nmf-rs-mu", "kullback-leibler", "brunet"),
    ],
)
def test_nmf_rs_agrees_with_its_public_call(name, loss, method):
    baseline = made(name)
    nmf = pytest.importorskip("nmf_rs").nmf
    V, W, H = data()
    expected = nmf(V, P, method, W0=W, H0=H, max_iter=12, rescale=False)
    state = baseline.start(V, make_loss(loss), W, H)
    found = baseline.factors(baseline.advance(state, 12))
    np.testing.assert_array_equal(found[0], expected.W)
    np.testing.assert_array_equal(found[1], expected.H)


def test_pyplanc_bpp_solves_each_factor_exactly(capfd):
    baseline = made("pyplanc-bpp")
    V, W, H = data()
    W, H = baseline.factors(
        baseline.advance(baseline.start(V, make_loss("frobenius"), W, H), 1)
    )
    exact = np.stack([scipy.optimize.nnls(W, v)[0] for v in V.T], 1)
    np.testing.assert_allclose(H, exact, atol=1e-9)
    assert capfd.readouterr().out == ""


def test_an_unfit_loss_is_refused_with_what_fits():
    with pytest.raises(
        UnsupportedError, match="'sklearn-cd' does not support the loss"
    ):
        run(made("sklearn-cd"), "kullback-leibler")


def test_penalties_are_refused():
    V, _, _ = data()
    with (
        programs.precision("float64") as dtype,
        pytest.raises(UnsupportedError, match="hals' does not support penalties"),
    ):
        penalised(V, dtype, made("numpy-hals"))


def penalised(V, dtype, baseline):
    return build.make_problem(V, baseline, build.Objective.of(l1=0.1), dtype)


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(UnsupportedError, match=r"pip install 'jaxnmf\[baselines\]'"):
        run(baselines.make("torchnmf"))
    with pytest.raises(UnsupportedError, match=r"pip install pyplanc$"):
        run(baselines.make("pyplanc-hals"))


def test_names_and_options_are_checked():
    with pytest.raises(ValueError, match="did you mean 'sklearn-cd'"):
        baselines.make("sklearn-dc")
    with pytest.raises(ValueError, match="did you mean 'hals_tol'"):
        baselines.make("nmf-torch-hals", {"hals_tl": 0.1})
    assert [o.name for o in options(baselines.baseline_class("nmf-torch-hals"))] == [
        "hals_max_iter",
        "hals_tol",
    ]
    with pytest.raises(ValueError, match="name 'numpy-hals' is taken"):

        @baselines.register_baseline("numpy-hals")
        class Other(baselines.Baseline):
            pass

    with pytest.raises(ValueError, match="field rate has no default"):

        @baselines.register_baseline("unheard-of")
        class Without(baselines.Baseline):
            rate: float

    with pytest.raises(dataclasses.FrozenInstanceError):
        baselines.make("nmf-torch-hals").hals_tol = 1.0


class Diverging(baselines.Baseline):
    """Halves its factors twice, then leaves NaN."""

    name = "diverging"

    def start(self, V, loss, W, H):
        return [W, H, 0]

    def advance(self, state, iterations):
        W, H, done = state
        for X in (W, H):
            X *= np.nan if done >= 2 else 0.5  # in place, as some systems do
        return [W, H, done + iterations]

    def factors(self, state):
        return state[0], state[1]


def test_the_last_finite_factors_are_kept():
    _, W, H = data()
    found = run(Diverging(), record_every=1, kkt=False)
    assert Status.from_code(found.status) == Status.DIVERGED
    assert found.iterations == 3
    np.testing.assert_array_equal(np.asarray(found.factors.Wt).T, W / 4)
    np.testing.assert_array_equal(np.asarray(found.factors.H), H / 4)
    assert np.isfinite(found.trace.kkt[[0, -1]]).all()
    assert np.isnan(found.trace.kkt[1:-1]).all()


def test_the_stop_rule_is_ours():
    assert Status.from_code(run(made("numpy-hals")).status) == Status.MAX_ITER
    spent = run(made("numpy-hals"), max_iter=10**6, seconds=0.01)
    assert Status.from_code(spent.status) == Status.TIME
    converged = run(made("numpy-hals"), max_iter=10**4, tol=1e-3)
    assert Status.from_code(converged.status) == Status.CONVERGED


def test_pools_have_a_thread_a_core_and_get_back_what_they_had():
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
        return {pool["num_threads"] for pool in pools}

    torch = sys.modules.get("torch")
    with threadpool_limits(1):
        before = torch and torch.get_num_threads()
        with base.every_core() as cores:
            assert threads() <= {cores}
            assert torch is None or torch.get_num_threads() == cores
        assert threads() <= {1}
        assert before == (torch and torch.get_num_threads())


def test_a_run_leaves_the_data_alone():
    V, W, H = data("float32")
    V[0, :3] = 0
    before = V.copy()
    for name in baselines.names():
        baseline = baselines.make(name)
        if baseline.requires is None or base.installed(baseline.requires):
            state = baseline.start(V, make_loss("frobenius"), W.copy(), H.copy())
            baseline.advance(state, 2)
            np.testing.assert_array_equal(V, before, err_msg=name)
    assert jax.config.jax_enable_x64 is False
