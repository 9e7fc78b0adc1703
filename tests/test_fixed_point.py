"""Derivatives of a solution against differences of solutions, which coordinate descent
in NumPy finds to the last digits."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import jaxnmf
from jaxnmf.run.programs import precision

M, N, P = 9, 8, 2
RNG = np.random.default_rng(5)
TRUTH = RNG.gamma(1.0, size=(M, P)), RNG.gamma(1.0, size=(P, N))
for X in TRUTH:
    X[RNG.random(X.shape) < 0.3] = 0
V = TRUTH[0] @ TRUTH[1] * RNG.uniform(0.6, 1.4, (M, N)) + 0.1 * RNG.random((M, N))
KNOWN = np.where(RNG.random((M, N)) < 0.8, RNG.uniform(0.5, 2.0, (M, N)), 0)
C = RNG.standard_normal((M, N))
STEP = 1e-5

# The first and second derivative of φ(v, x) in x.
CURVES = {
    "frobenius": (lambda v, x: x - v, lambda v, x: 1 + 0 * x),
    "kullback-leibler": (lambda v, x: 1 - v / x, lambda v, x: v / x**2),
    "itakura-saito": (lambda v, x: (x - v) / x**2, lambda v, x: (2 * v - x) / x**3),
}


def softened(v: Any, x: Any) -> Any:
    return jax.numpy.sqrt(1 + (v - x) ** 2) - 1


CURVES["own"] = (
    lambda v, x: (x - v) / np.sqrt(1 + (x - v) ** 2),
    lambda v, x: (1 + (x - v) ** 2) ** -1.5,
)


def fitted(V, W, H, loss="frobenius", l1=0.0, l2=0.0, mask=None, held=(None, None)):
    """The solution that coordinate descent reaches from (W, H) by Newton's steps."""
    slope, curve = CURVES[loss]
    weights = np.ones(V.shape) if mask is None else mask
    factors = [np.array(W), np.array(H).T]
    for _ in range(3000):
        change = 0.0
        for side, (v, w) in enumerate([(V, weights), (V.T, weights.T)]):
            free, fixed = factors[side], factors[1 - side]
            (a, b), values = (np.broadcast_to(x, 2)[side] for x in (l1, l2)), held[side]
            for k in range(P):
                x = free @ fixed.T
                g = (w * slope(v, x)) @ fixed[:, k] + a + b * free[:, k]
                h = (w * curve(v, x)) @ fixed[:, k] ** 2 + b
                new = np.maximum(free[:, k] - g / h, 0)
                if values is not None:
                    new = np.where(np.isnan(values[:, k]), new, values[:, k])
                change = max(change, np.abs(new - free[:, k]).max())
                free[:, k] = new
        if change < 1e-14:
            break
    return factors[0], factors[1].T


def solved(loss="frobenius", held=(None, None), **given) -> jaxnmf.Result:
    """The `Result` of a fit to V, polished."""
    mask = given.get("mask")
    options = {"l1": given.get("l1", 0.0), "l2": given.get("l2", 0.0)}
    start = jaxnmf.factorize(
        V,
        P,
        solver="mu" if loss != "own" else "pgd",
        loss=softened if loss == "own" else loss,
        mask=mask,
        max_iter=2000,
        tol=0,
        dtype="float64",
        **options,
    )
    W, H = fitted(V, start.W, start.H, loss, held=held, **given)
    return dataclasses.replace(start, W=W, H=H, kkt=0.0)


def value(W: Any, H: Any) -> Any:
    """A function that depends on no scale of W or H."""
    return (C * (W @ H)).sum() + ((W @ H) ** 2).sum() / 7


def entry(place: tuple[int, int], shape: tuple[int, int] = (M, N)) -> np.ndarray:
    unit = np.zeros(shape)
    unit[place] = 1
    return unit


def both_modes(function: Any, at: Any, along: Any) -> tuple[float, float]:
    """The derivative along a direction, by `jax.jvp` and by `jax.grad`."""
    forward = float(jax.jvp(function, (at,), (along,))[1])
    gradient = jax.tree.leaves(jax.grad(function)(at))
    pairs = zip(gradient, jax.tree.leaves(along), strict=True)
    return forward, float(sum(np.vdot(x, y) for x, y in pairs))


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


BARE = {"V": (entry((2, 3)), entry((0, 1)))}
PENALISED = {**BARE, "l1": ((1.0, 0.0), (0.0, 1.0)), "l2": ((1.0, 0.0), (0.0, 1.0))}
WEIGHTED = {**PENALISED, "mask": (KNOWN * entry((1, 1)) + entry((4, 4)),)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "given", "directions"),
    [
        ("frobenius", {}, BARE),
        ("frobenius", {"l1": (0.05, 0.1), "l2": (0.2, 0.1)}, PENALISED),
        ("frobenius", {"l1": (0.05, 0.1), "l2": (0.2, 0.1), "mask": KNOWN}, WEIGHTED),
        ("kullback-leibler", {"l1": (0.05, 0.1), "l2": (0.2, 0.1)}, PENALISED),
        ("itakura-saito", {"l1": (0.05, 0.1), "l2": (0.2, 0.1)}, PENALISED),
        ("own", {"l1": (0.05, 0.1), "l2": (0.2, 0.1)}, PENALISED),
    ],
)
def test_derivatives_are_those_of_differences(loss, given, directions):
    start = solved(loss, **given)
    own = softened if loss == "own" else loss
    at = {"V": V, "l1": (0.0, 0.0), "l2": (0.0, 0.0), "mask": None, **given}
    assert 0 < (start.W == 0).sum() + (start.H == 0).sum() < 20

    def of(**changed: Any) -> Any:
        now = {**at, **changed}
        return value(*jaxnmf.fixed_point(now.pop("V"), P, start=start, loss=own, **now))

    for name, ways in directions.items():
        for way in ways:
            forward, reverse = both_modes(
                lambda x, name=name: of(**{name: x}), at[name], way
            )

            def moved(sign: float, name: str = name, way: Any = way) -> float:
                step = lambda x, y: x + sign * STEP * y  # noqa: E731
                now = {**at, name: jax.tree.map(step, at[name], way)}
                X = now.pop("V")
                return value(*fitted(X, start.W, start.H, loss, **now))

            expected = (moved(1) - moved(-1)) / (2 * STEP)
            assert forward == pytest.approx(expected, rel=1e-5, abs=1e-8)
            assert reverse == pytest.approx(forward, rel=1e-8, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["W", "H"])
def test_derivatives_by_a_known_entry_are_those_of_differences(side):
    known = np.full((M, 1) if side == "W" else (1, N), np.nan)
    known[(2, 0) if side == "W" else (0, 2)] = 0.7
    known[(5, 0) if side == "W" else (0, 5)] = 0.0
    given = {"l1": 0.05, "l2": (0.1, 0.2)}

    def held(known: np.ndarray) -> Any:
        turned = known if side == "W" else known.T
        wide = np.hstack([turned, np.full((len(turned), P - 1), np.nan)])
        return (wide, None) if side == "W" else (None, wide)

    start = solved(held=held(known), **given)

    def of(known: Any) -> Any:
        parts = {f"known_{side}": known}
        return value(*jaxnmf.fixed_point(V, P, start=start, **given, **parts))

    for place in ((2, 0), (5, 0)):
        way = entry(place if side == "W" else place[::-1], known.shape)
        forward, reverse = both_modes(of, known, way)
        # From 0 in one direction: an entry that is held is not below it.
        ends = [
            value(*fitted(V, start.W, start.H, held=held(known + s * way), **given))
            for s in (STEP, -STEP if place == (2, 0) else 0.0)
        ]
        expected = (ends[0] - ends[1]) / (STEP if place == (5, 0) else 2 * STEP)
        assert forward == pytest.approx(expected, rel=1e-3)
        assert reverse == pytest.approx(forward, rel=1e-8)


def test_with_all_of_h_known_it_is_the_derivative_of_least_squares():
    H = TRUTH[1] + 0.1
    first = jaxnmf.factorize(V, P, dtype="float64")
    start = dataclasses.replace(first, H=H).fold_in(V, tol=1e-12)

    def of(H: Any) -> Any:
        return value(*jaxnmf.fixed_point(V, P, start=start, known_H=H))

    def by_scipy(H: np.ndarray) -> float:
        return value(np.stack([scipy.optimize.nnls(H.T, v)[0] for v in V]), H)

    way = np.random.default_rng(0).standard_normal(H.shape)
    expected = (by_scipy(H + STEP * way) - by_scipy(H - STEP * way)) / (2 * STEP)
    for found in both_modes(of, H, way):
        assert found == pytest.approx(expected, rel=1e-5)


def test_entries_at_zero_or_at_the_floor_of_a_solver_do_not_move():
    start = solved(l2=0.1)
    floor = dataclasses.replace(
        start, W=np.maximum(start.W, 1e-10), H=np.maximum(start.H, 1e-10)
    )
    moves = []
    for one in (start, floor):
        of = lambda l2, one=one: jaxnmf.fixed_point(V, P, start=one, l2=l2)  # noqa: E731
        factors, moved = jax.jvp(of, (0.1,), (1.0,))
        np.testing.assert_allclose(factors[0], one.W, rtol=1e-12)
        np.testing.assert_allclose(factors[1], one.H, rtol=1e-12)
        for X, dX in zip((start.W, start.H), moved, strict=True):
            assert ((X == 0) <= (np.asarray(dX) == 0)).all()
            assert (np.asarray(dX)[X > 0] != 0).all()
        moves.append(moved)
    for dX, dY in zip(*moves, strict=True):
        np.testing.assert_allclose(dX, dY, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("c", [1.0, 1e-30, 1e30])
def test_single_precision_and_any_scale_of_the_data(c):
    def gradient(V: np.ndarray, start: Any, l2: Any, loss: str) -> Any:
        def of(V: Any) -> Any:
            W, H = jaxnmf.fixed_point(V, P, start=start, l2=l2, loss=loss)
            return (C.astype(W.dtype) * (W @ H)).sum()

        return jax.grad(of)(V)

    for loss, beta in (("frobenius", 2), ("kullback-leibler", 1)):
        start = solved(loss, l2=0.2)
        expected = gradient(V, start, 0.2, loss)
        root = np.sqrt(c)
        scaled = dataclasses.replace(start, W=start.W * root, H=start.H * root)
        single = dataclasses.replace(
            scaled, W=scaled.W.astype(np.float32), H=scaled.H.astype(np.float32)
        )
        with precision("float32"):
            l2 = 0.2 * c ** (beta - 1)
            found = gradient((V * c).astype(np.float32), single, l2, loss)
        assert found.dtype == np.float32
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=2e-3 * scale)


def test_a_change_of_an_argument_compiles_nothing():
    start = solved(l2=0.2)
    of = lambda l2: value(*jaxnmf.fixed_point(V, P, start=start, l2=l2))  # noqa: E731
    first = jax.grad(of)(0.2)
    with jax.log_compiles(False):
        before = jaxnmf.objective.implicit.solution._cache_size()
        second = jax.grad(jax.jit(of))(0.2)
        jax.grad(of)(0.2001)
        assert jaxnmf.objective.implicit.solution._cache_size() == before
    assert second == pytest.approx(float(first), rel=1e-8)


def test_an_unconverged_start_is_warned_of():
    start = jaxnmf.factorize(V, P, max_iter=1)
    with pytest.warns(UserWarning, match="KKT residual.*smaller tol"):
        jaxnmf.fixed_point(V, P, start=start)


START = jaxnmf.factorize(V, P, max_iter=3000, tol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"V": V[0]}, r"V has shape \(8,\)"),
        ({"V": scipy.sparse.csr_array(V)}, r"V is a csr_array.*V.toarray"),
        ({"V": V * np.nan}, "V holds entries that are not finite"),
        ({"V": V.T}, r"start has W and H of shapes \(9, 2\) and \(2, 8\).*\(8, 2\)"),
        ({"rank": 3}, r"for this V and rank.*\(9, 3\) and \(3, 8\)"),
        ({"rank": 0}, "rank=0"),
        ({"start": (START.W, START.H)}, "start is a tuple; it must be the Result"),
        ({"start": dataclasses.replace(START, W=-START.W)}, "negative entries"),
        ({"loss": "kl"}, "loss is 'kullback-leibler'; start was fitted with 'frob"),
        ({"l1": -1.0}, "l1=-1.0"),
        ({"l2": (1.0, 2.0, 3.0)}, "l2 has 3 values; give one for both"),
        ({"mask": np.ones((2, 2))}, r"mask has shape \(2, 2\)"),
        ({"mask": -np.ones((M, N))}, "mask holds entries that are negative"),
        ({"known_H": START.H.T}, r"known_H has shape \(8, 2\); it must be \(k, 8\)"),
        ({"known_W": np.full((M, 3), np.nan)}, r"\(9, k\) with k ≤ 2"),
        ({"known_W": -START.W}, "known_W holds entries that are negative"),
        ({"known_H": 2 * START.H}, "known_H is not what start.H holds there"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    arguments = {"V": V, "rank": P, "start": START, **given}
    with pytest.raises(ValueError, match=message):
        jaxnmf.fixed_point(arguments.pop("V"), arguments.pop("rank"), **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": "simplex", "solver": "pgd"}, "constraint 'simplex'"),
        ({"offsets": True, "mask": np.ones((M, N))}, "start has offsets"),
    ],
)
def test_a_start_of_another_problem_is_refused(settings, message):
    start = jaxnmf.factorize(V, P, max_iter=20, **settings)
    with pytest.raises(ValueError, match=message):
        jaxnmf.fixed_point(V, P, start=start)
