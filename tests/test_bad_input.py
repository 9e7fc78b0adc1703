"""What does not fit is refused in words, before anything is compiled.

The refusals are collected in a process of its own, where `factorize` is as users meet
it: the type checker of the tests would be the first to refuse a value of a wrong type.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import jaxnmf

M, N, RANK = 8, 6, 2
V = np.random.default_rng(0).random((M, N)) + 0.1
W0, H0 = V[:, :RANK], V[:RANK]


def with_entry(x: float) -> np.ndarray:
    """V with one entry replaced."""
    A = V.copy()
    A[2, 3] = x
    return A


def one_by_one(v: Any, x: Any) -> Any:
    """A loss of one's own."""
    return (v - x) ** 2


# Name: what differs from a good call, and the words of its refusal: the argument, what
# was found, what is expected.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    # --- V
    "V negative": ({"V": with_entry(-1)}, ["V", "negative", "-1", "≥ 0"]),
    "V NaN": (
        {"V": with_entry(np.nan)},
        ["V", "(8, 6)", "NaN", "≥ 0", "mask='nan'"],
    ),
    "V infinite": ({"V": with_entry(np.inf)}, ["V", "infinite", "finite"]),
    "V minus infinite": ({"V": with_entry(-np.inf)}, ["V", "infinite", "finite"]),
    "V empty": ({"V": np.zeros((0, 3))}, ["V", "empty", "(0, 3)", "m ≥ 1"]),
    "V scalar": ({"V": 3.0}, ["V", "0 dimension(s)", "(m, n)"]),
    "V 1-D": ({"V": V[0]}, ["V", "1 dimension(s)", "(6,)", "(m, n)"]),
    "V 3-D": ({"V": V[None]}, ["V", "3 dimension(s)", "(1, 8, 6)", "(m, n)"]),
    "V complex": ({"V": V + 0j}, ["V", "complex128", "real"]),
    "V of strings": ({"V": V.astype(str)}, ["V", "<U32", "real"]),
    "V a string": ({"V": "digits"}, ["V", "<U6", "real"]),
    "V of objects": ({"V": V.astype(object)}, ["V", "object", "real"]),
    "V None": ({"V": None}, ["V", "views", "neither"]),
    "V ragged": ({"V": [[1, 2], [3]]}, ["V", "list", "lengths", "(m, n)"]),
    "sparse negative": ({"V": sp.csr_array(with_entry(-2))}, ["V", "-2", "≥ 0"]),
    "sparse NaN": ({"V": sp.csc_array(with_entry(np.nan))}, ["V", "NaN", "≥ 0"]),
    "sparse infinite": ({"V": sp.coo_array(with_entry(np.inf))}, ["V", "infinite"]),
    "sparse complex": ({"V": sp.csr_array(V + 0j)}, ["V", "complex128", "real"]),
    "sparse empty": ({"V": sp.csr_array((0, 3))}, ["V", "empty", "m ≥ 1"]),
    "sparse 1-D": ({"V": sp.coo_array(np.ones(5))}, ["V", "(5,)", "(m, n)"]),
    # --- what is known of it
    "mask shape": ({"mask": V.T > 0}, ["mask", "(6, 8)", "(8, 6)"]),
    "mask of nothing": ({"mask": V < 0}, ["mask", "nothing of V known"]),
    "mask negative": ({"mask": -V}, ["mask", "negative", "≥ 0"]),
    "mask word": ({"mask": "nans"}, ["mask='nans'", "'nan'", "(m, n)"]),
    "mask nan of sparse": (
        {"V": sp.csr_array(V), "mask": "nan"},
        ["dense V", "jaxnmf.Observed.stored(V)"],
    ),
    "masked by hals-online": (
        {"mask": V > 0.5, "solver": "hals-online"},
        ["'hals-online'", "observed data", "solvers that do: ", "hals", "mu"],
    ),
    "offsets of a whole V": ({"offsets": True}, ["offsets", "mask", "Observed"]),
    "offsets of three": (
        {"mask": V > 0.5, "offsets": (1, 2, 3)},
        ["offsets", "3 values", "pair"],
    ),
    "toward": ({"mask": V > 0.5, "toward": "one"}, ["toward='one'", "zero", "mean"]),
    # --- neighbours
    "graph of both": ({"graph": np.eye(8)}, ["graph", "pair", "(A, None)"]),
    "graph size": (
        {"graph": (None, np.eye(8))},
        ["graph[1]", "(8, 8)", "6 columns", "(6, 6)"],
    ),
    "graph not square": ({"graph": (V, None)}, ["graph[0]", "(8, 6)", "square"]),
    "graph not symmetric": (
        {"graph": (np.eye(8, k=1), None)},
        ["graph[0]", "not symmetric", "1 at (0, 1)", "0 at (1, 0)", "(A + A.T) / 2"],
    ),
    "graph negative": (
        {"graph": (sp.csr_array(-np.eye(8)), None)},
        ["graph[0]", "-1 at (0, 0)", "negative", "≥ 0"],
    ),
    "graph nan": (
        {"graph": (np.full((8, 8), np.nan), None)},
        ["graph[0]", "nan", "not finite"],
    ),
    "graph word": ({"graph": ("grid", None)}, ["graph[0]", "str", "square"]),
    "graph by gcd": (
        {"graph": (np.ones((8, 8)), None), "solver": "gcd"},
        ["'gcd'", "a graph", "solvers that do: ", "hals", "mu", "pgd"],
    ),
    "graph by kl-newton": (
        {"graph": (np.ones((8, 8)), None), "solver": "kl-newton", "loss": "kl"},
        ["'kl-newton'", "a graph", "solvers that do: ", "mu", "pgd"],
    ),
    "graph with offsets": (
        {"graph": (np.ones((8, 8)), None), "mask": V > 0.5, "offsets": True},
        ["offsets=True", "graph"],
    ),
    "graph on a mesh": (
        {"graph": (np.ones((8, 8)), None), "mesh": "rows"},
        ["graph", "several devices", "mesh"],
    ),
    "graph of blocks": (
        {"V": jaxnmf.Blocks(V), "graph": (np.ones((8, 8)), None), "solver": "hals"},
        ["graph", "blocks", "whole"],
    ),
    "weight of no graph": ({"graph_weight": 2.0}, ["graph_weight=2.0", "no graph"]),
    "graph_weight": (
        {"graph": (np.ones((8, 8)), None), "graph_weight": -1},
        ["graph_weight=-1", "≥ 0"],
    ),
    # --- rank
    **{
        f"rank {rank!r}": ({"rank": rank}, [f"rank={rank!r}", "integer ≥ 1"])
        for rank in (0, -1, 2.5, True, "3", None)
    },
    "rank above the SVD's": (
        {"rank": 7, "init": "nndsvd"},
        ["'nndsvd'", "rank=7", "min(m, n) = 6", "'random'"],
    ),
    # --- when to stop, what to record
    **{
        f"{name} {value!r}": (
            {name: value},
            [f"{name}={value!r}", f"integer ≥ {least}"],
        )
        for name, least, values in (
            ("max_iter", 1, (0, -5, 1.5, "10", None, True)),
            ("record_every", 1, (0, 2.0, None)),
            ("seed", 0, (-1, 0.5, None, "a")),
        )
        for value in values
    },
    **{
        f"{name} {value!r}": ({name: value}, [f"{name}={value!r}", "finite number"])
        for name, values in (
            ("tol", (-1, np.nan, np.inf, "small", None, True)),
            ("kkt_tol", (-1e-3, "small")),
            ("time_budget", (-1, np.inf, "1 s")),
            ("target", (np.nan, "low", [1.0])),
            ("l1", (-1, None, "x")),
            ("l2", (-0.5, np.nan, np.inf, True)),
        )
        for value in values
    },
    "l1 of one factor": ({"l1": (1, -2)}, ["l1=-2", "≥ 0"]),
    "l1 of three": ({"l1": (1, 2, 3)}, ["l1", "3 values", "a pair"]),
    "l2 of one": ({"l2": [1.0]}, ["l2", "1 values", "a pair"]),
    # --- init
    "init name": ({"init": "nndvsd"}, ["init='nndvsd'", "'nndsvd'?", "random"]),
    "init None": ({"init": None}, ["init=None", "nndsvda", "(W, H)"]),
    "init number": ({"init": 3}, ["init=3", "(W, H)"]),
    "init of one": ({"init": (W0,)}, ["init", "1 entries", "(W, H)"]),
    "init of three": ({"init": (W0, H0, H0)}, ["init", "3 entries", "(W, H)"]),
    "init W shape": ({"init": (V, H0)}, ["init", "W", "(8, 6)", "(8, 2)"]),
    "init H shape": ({"init": (W0, H0.T)}, ["init", "H", "(6, 2)", "(2, 6)"]),
    "init negative": ({"init": (W0, -H0)}, ["init", "H", "negative", "≥ 0"]),
    "init NaN": ({"init": (W0 * np.nan, H0)}, ["init", "W", "finite", "≥ 0"]),
    "init strings": ({"init": (W0.astype(str), H0)}, ["init", "W", "numbers"]),
    # --- solver and loss
    "solver name": ({"solver": "halls"}, ["'halls'", "'hals'?", "mu", "pgd"]),
    "solver without step": ({"solver": object()}, ["solver=", "hals", "instance"]),
    "solver None": ({"solver": None}, ["solver=None", "hals", "instance"]),
    "solver a class": ({"solver": dict}, ["solver=", "dict", "instance"]),
    "loss name": ({"loss": "frobenus"}, ["'frobenus'", "'frobenius'?", "beta"]),
    "loss None": ({"loss": None}, ["loss=None", "frobenius", "φ(v, x)"]),
    "loss a number": ({"loss": 2}, ["loss=2", "frobenius", "φ(v, x)"]),
    "loss a class": ({"loss": dict}, ["loss=", "frobenius", "φ(v, x)"]),
    "solver option": (
        {"solver": "hals", "solver_options": {"iner": 1}},
        ["'hals'", "'iner'", "'inner'?", "options: inner"],
    ),
    "solver option's type": (
        {"solver": "hals", "solver_options": {"inner": 1.5}},
        ["'hals'", "inner=1.5", "int"],
    ),
    "solver options no mapping": (
        {"solver": "hals", "solver_options": 3},
        ["solver_options=3"],
    ),
    "solver options without a name": (
        {"solver_options": {"inner": 1}},
        ["solver_options={'inner': 1}", "solver='auto' has none"],
    ),
    "loss option": (
        {"loss": "beta", "solver": "mu", "loss_options": {"bata": 1.5}},
        ["'beta'", "'bata'", "'beta'?"],
    ),
    "loss option's type": (
        {"loss": "beta", "solver": "mu", "loss_options": {"beta": "x"}},
        ["'beta'", "beta='x'", "float"],
    ),
    "loss without options": ({"loss_options": {"beta": 1.0}}, ["'beta'", "none"]),
    "options of an instance": (
        {"loss": one_by_one, "solver": "pgd", "loss_options": {"a": 1}},
        ["loss_options", "name"],
    ),
    "optimiser": (
        {"solver": "optax", "solver_options": {"optimizer": "sdg"}},
        ["optimizer", "'sdg'", "'sgd'?", "adam"],
    ),
    # --- combinations
    "KL by hals": (
        {"solver": "hals", "loss": "kl"},
        ["'hals'", "'kullback-leibler'", "solvers that do: ", "mu", "pgd"],
    ),
    "own loss by mu": (
        {"loss": one_by_one, "solver": "mu"},
        ["'mu'", "'own'", "solvers that do: ", "pgd"],
    ),
    "IS with zeros": (
        {"V": with_entry(0), "loss": "is", "solver": "mu"},
        ["V", "zeros", "'itakura-saito'", "> 0", "'kullback-leibler'"],
    ),
    "β-loss on sparse": (
        {"V": sp.csr_array(V), "loss": "beta", "solver": "mu"},
        ["'beta'", "sparse V", "V.toarray()", "GB", "'frobenius'"],
    ),
    # --- dtype
    **{
        f"dtype {dtype!r}": ({"dtype": dtype}, [f"dtype={dtype!r}", "float32"])
        for dtype in ("float16", int, None, "complex64")
    },
    "dtype mistyped": ({"dtype": "flaot32"}, ["'flaot32'", "'float32'?"]),
    # --- mesh
    "mesh mistyped": ({"mesh": "gird"}, ["mesh='gird'", "'grid'?", "rows", "auto"]),
    "mesh of numbers": ({"mesh": (2, 2)}, ["mesh=(2, 2)", "jax.sharding.Mesh"]),
}

GOOD: dict[str, Any] = {"V": V, "rank": RANK}


def main() -> None:
    """Print, of each case, the type and words of its refusal and what was compiled."""
    import importlib

    import jaxnmf

    # The function of that name hides the module.
    module: Any = importlib.import_module("jaxnmf.factorize")
    clock: Any = importlib.import_module("jaxnmf.run.clock")

    started: list[str] = []

    def timed(*_: Any, **__: Any) -> Any:
        started.append("timed")
        raise RuntimeError("the run was started")

    def compiled(*_: Any, **__: Any) -> Any:
        started.append("compiled")
        raise RuntimeError("was compiled")

    module.run_anywhere, clock.compiled = timed, compiled
    reported = {}
    for name, (changes, _) in {"good": ({}, []), **CASES}.items():
        started.clear()
        try:
            jaxnmf.factorize(**{**GOOD, **changes})
        except Exception as error:
            kind = "ValueError" if isinstance(error, ValueError) else repr(error)
            reported[name] = [kind, str(error), list(started)]
    print(json.dumps(reported))


@pytest.fixture(scope="session")
def refusals() -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_good_call_gets_as_far_as_the_run(refusals):
    assert refusals["good"][2] == ["timed"]


@pytest.mark.parametrize("case", CASES)
def test_is_refused_in_words_before_compiling(case, refusals):
    kind, message, started = refusals[case]
    assert started == []
    assert kind == "ValueError"
    assert "\n" not in message
    for word in CASES[case][1]:
        assert word in message


if __name__ == "__main__":
    main()
