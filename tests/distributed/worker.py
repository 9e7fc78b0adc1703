"""One of several processes that factorise together; started by test_processes.py.

Usage: worker.py COORDINATOR PROCESSES PROCESS CASE…

A case is a name, or a name and a path: resume:/tmp/run.
"""

import json
import signal
import sys
from typing import Any

import jax
import numpy as np
import scipy.sparse
from jax.sharding import NamedSharding, PartitionSpec

import jaxnmf
from jaxnmf.build import Objective, Start, draw_start, make_problem
from jaxnmf.data.spread import Spread
from jaxnmf.experiment.factorization import factorize_file
from jaxnmf.init.start import initial_factors
from jaxnmf.registry import make_solver
from jaxnmf.run.programs import precision

V = np.random.default_rng(0).random((16, 12), np.float32)
OPTIONS: Any = {"max_iter": 20, "tol": 0, "solver": "hals", "seed": 3}


def spread() -> jax.Array:
    """V over the devices of all processes, in units that are not 1."""
    mesh = jax.make_mesh((jax.device_count() // 2, 2), ("a", "b"))
    place = NamedSharding(mesh, PartitionSpec("a", "b"))
    big = V * np.float32(2.0**24)
    return jax.make_array_from_callback(V.shape, place, lambda index: big[index])


def described(result: jaxnmf.Result, small: bool = False) -> dict[str, Any]:
    if jax.process_index() == 0:  # says its shape without the others
        assert repr(result).startswith(f"Result({'15×11' if small else '16×12'}, p=3")
    assert type(result.objective) is float
    assert type(result.relative_error) is float
    return {
        "objective": result.objective,
        "error": result.relative_error,
        "iterations": result.iterations,
        "status": str(result.status),
        "W": result.W.tolist(),
        "H": result.H.tolist(),
    }


def run(case: str) -> Any:
    case, _, place = case.partition(":")
    if case == "resume":  # a run that ends after half its iterations, and the rest
        given = OPTIONS | {"checkpoint": place}
        jaxnmf.factorize(spread(), 3, **given | {"max_iter": 10})
        return described(jaxnmf.factorize(spread(), 3, **given))
    if case == "kept":  # what is done without all of W in one process
        data = spread()
        found = jaxnmf.factorize(data, 3, **OPTIONS)
        found.save(place)
        moved = found.fold_in(V[:2] * np.float32(2.0**24)).W
        residual = found.residual(data)
        assert isinstance(found.__dict__["W"], Spread)
        assert residual.sharding == data.sharding
        whole = V * np.float32(2.0**24) - found.W @ found.H
        for one in residual.addressable_shards:
            np.testing.assert_allclose(one.data, whole[one.index], atol=20)
        return {**described(found), "moved": moved.tolist()}
    if case == "file":  # as the command line does, of which one writes
        file, out = place.split(":")
        given = OPTIONS | {"mesh": "rows", "checkpoint": f"{out}-run"}
        result, _ = factorize_file(file, 3, out, blocks=True, **given)
        return described(result)
    if case == "blocks":  # each process reads its own rows of a file
        blocks = jaxnmf.Blocks(place, rows=3)
        source, seen = blocks.source, []
        read = source.block
        source.block = lambda i: seen.append(i) or read(i)
        found = jaxnmf.factorize(blocks, 3, mesh="rows", **OPTIONS)
        # 15 rows in blocks of 3, of which each process has about half.
        if blocks.row_entries is None:
            assert seen == ([0, 1, 2] if jax.process_index() == 0 else [2, 3, 4])
        assert 2 <= len(seen) <= 4
        found.save(f"{place}-kept.npz")
        return described(found, small=True)
    if case == "start":  # each process has its own rows, of the same bits
        with precision("float32"):
            objective, hals = Objective.of(), make_solver("hals")
            problem = make_problem(spread(), hals, objective, np.dtype("float32"))
            found = draw_start(problem, objective, Start.of(), 3)
            whole = initial_factors(problem.operand, 3)
        assert {one.data.shape for one in found.Wt.addressable_shards} == {(3, 8)}
        for X, Y in zip(found, whole, strict=True):
            for one in jax.numpy.asarray(X).addressable_shards:
                np.testing.assert_array_equal(one.data, Y[one.index])
        return None
    if case == "spread":
        return described(jaxnmf.factorize(spread(), 3, **OPTIONS))
    if case == "host":  # of a shape that does not divide
        found = jaxnmf.factorize(V[:15, :11], 3, mesh="grid", **OPTIONS)
        return described(found, small=True)
    if case == "sparse":
        sparse = scipy.sparse.csr_array(V * (V > 0.6))
        return described(jaxnmf.factorize(sparse, 3, mesh="rows", **OPTIONS))
    if case == "budget":  # the clocks of processes differ
        given = OPTIONS | {"max_iter": 10**6, "time_budget": 1.0}
        return described(jaxnmf.factorize(spread(), 3, **given))
    if case == "default":
        result = jaxnmf.factorize(spread(), 3, max_iter=20)
        moved = result.transform(V[:2] * np.float32(2.0**24))
        return {**described(result), "moved": moved.tolist()}
    if case == "differ":
        data = V + np.float32(jax.process_index())
        return described(jaxnmf.factorize(data, 3, mesh="rows", **OPTIONS))
    if case == "refused":
        for given in ({"mesh": "rows"}, {"mask": V > 0.5}):
            try:
                jaxnmf.factorize(spread(), 3, **given)
            except ValueError as error:
                print(error)
        return None
    if case == "long":
        print("started", flush=True)
        return described(jaxnmf.factorize(spread(), 3, **OPTIONS | {"max_iter": 10**8}))
    raise ValueError(case)


if __name__ == "__main__":
    # A suite that runs in the background ignores it, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    coordinator, processes, process, *chosen = sys.argv[1:]
    jaxnmf.distributed.start(coordinator, int(processes), int(process), timeout=60)
    for one in chosen:
        print("RESULT " + json.dumps(run(one)), flush=True)
