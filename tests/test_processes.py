"""Other processes: results that travel, forked workers, Ctrl-C."""

import copy
import io
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest

import jaxnmf
from jaxnmf import ratings
from jaxnmf.registry import make_solver
from jaxnmf.run.stop import Stop
from jaxnmf.selection import METHODS
from jaxnmf.sweeps.batching import Batching
from jaxnmf.sweeps.lanes import Runner

V = np.random.default_rng(0).random((12, 9)) + 0.1
OBSERVED = jaxnmf.Observed([0, 1, 2], [1, 0, 2], [1.0, 2.0, 3.0], (3, 3))


def squares(v: Any, x: Any) -> Any:
    """A loss of one's own, in a module that another process can import."""
    return (v - x) ** 2


def select(method: str) -> jaxnmf.RankSelection:
    few: Any = {"repeats": 2} if method == "cross_validation" else {}
    return jaxnmf.select_rank(V, [2, 3], method=method, seeds=4, max_iter=20, **few)


MADE: dict[str, Callable[[], Any]] = {
    "result": lambda: jaxnmf.factorize(V, 2, max_iter=10),
    "own loss": lambda: jaxnmf.factorize(V, 2, max_iter=10, solver="pgd", loss=squares),
    "box": lambda: jaxnmf.factorize(V, 2, max_iter=10, constraints=jaxnmf.Box(upper=9)),
    "offsets": lambda: jaxnmf.factorize(V, 2, max_iter=10, mask=V > 0.3, offsets=True),
    "sweep": lambda: jaxnmf.sweep(V, [2, 3], 2, max_iter=10),
    "estimator": lambda: jaxnmf.NMF(2, max_iter=5, tol=0).fit(V),
    "observed": lambda: OBSERVED,
    "split": lambda: ratings.split(OBSERVED, test=0.4, validation=0),
    "solver": lambda: make_solver("extrapolated"),
    "simplex": lambda: jaxnmf.Simplex(),
    "data set": lambda: jaxnmf.datasets.load("synthetic"),
    "status": lambda: jaxnmf.Status.CONVERGED,
    **{method: lambda method=method: select(method) for method in list(METHODS)[:3]},
}


def through_joblib(x: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(x, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.filterwarnings("ignore:no p is chosen")
@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_every_result_travels(name):
    made = MADE[name]()
    for travel in (lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy):
        assert repr(travel(made)) == repr(made)
    arrived = through_joblib(made)
    assert repr(arrived) == repr(made)
    if isinstance(made, jaxnmf.Result):
        np.testing.assert_array_equal(arrived.transform(V), made.transform(V))
    if isinstance(made, jaxnmf.SweepResult):
        assert arrived.table.equals(made.table)
        np.testing.assert_array_equal(arrived.best(3).W, made.best(3).W)
    if isinstance(made, jaxnmf.RankSelection):
        assert arrived.table.equals(made.table)
        if made.method.consensus:
            rank = int(made.table.index[-1])
            np.testing.assert_array_equal(
                arrived.factors(rank)[0], made.factors(rank)[0]
            )


FORK = """
    import multiprocessing, sys, warnings
    import numpy as np, jaxnmf
    warnings.simplefilter("ignore")
    V = np.random.default_rng(0).random((12, 9))
    if sys.argv[1] == "used":
        jaxnmf.factorize(V, 2, max_iter=1)

    def work(i):
        return jaxnmf.factorize(V, 2, max_iter=1).iterations

    with multiprocessing.get_context("fork").Pool(2) as pool:
        try:
            print(pool.map(work, range(2)))
        except RuntimeError as error:
            print(error)
    # Started anew, or by joblib, workers do as they always do.
    print(jaxnmf.factorize(V, 2, max_iter=1).iterations)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize(
    "before", ["used", pytest.param("imported", marks=pytest.mark.slow)]
)
def test_a_forked_worker_says_what_would_work(before):
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), before],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer, own = found.stdout.splitlines()
    if before == "used":
        assert "forked" in answer
        assert "spawn" in answer
        assert "joblib" in answer
    else:
        assert answer == "[1, 1]"
    assert own == "1"


@pytest.mark.skipif(os.name == "nt", reason="needs signals to a process")
def test_ctrl_c_waits_for_every_thread(monkeypatch):
    """A thread that is left would bring the process down at exit."""
    runner = Runner(
        np.float32,
        Stop(),
        records=1,
        record_every=10,
        kkt=False,
        batching=Batching(workers=3),
    )
    started, ended, order = threading.Barrier(4), [], iter(range(3))

    def work(make: Any, done: Any) -> None:
        first = next(order) == 0
        started.wait()
        runner.cancelled.wait()
        time.sleep(0.5 if first else 0)  # the call under way
        ended.append(True)

    def interrupt() -> None:
        started.wait()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runner, "_alone", work)
    # A suite in the background inherits that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run([0], lambda _: None, lambda *_: None)  # pyright: ignore
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ended) == 3
