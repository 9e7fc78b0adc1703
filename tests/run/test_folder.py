"""Checkpoints of a run in a folder: resumed to the same bits, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf.run import folder

# The shapes of the runs over blocks.
M, N, RANK, HEIGHT = 46, 12, 3, 12
RNG = np.random.default_rng(5)
V = (RNG.random((M, RANK)) @ RNG.random((RANK, N))).astype(np.float32) + 0.1
V += 0.2 * RNG.random((M, N), np.float32)
SPARSE = scipy.sparse.csr_array(np.where(RNG.random((M, N)) < 0.4, V, 0))
RUN: dict[str, Any] = {"tol": 0, "record_every": 2, "max_iter": 8, "init": "random"}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "memory": (V, {"solver": "hals"}),
    "random": (V, {"solver": "hals-online", "solver_options": {"batch": 12}}),
    "blocks": (V, {"solver": "extrapolated"}),
    "sparse blocks": (SPARSE, {"solver": "hals"}),
    "mesh": (SPARSE, {"solver": "hals", "mesh": "grid"}),
}
SLOW = ("random", "sparse blocks", "mesh")


class Rows:
    """Blocks of V that count the reads and may stop the run, as Ctrl-C does."""

    def __init__(self, V: Any, stop_at: float = np.inf) -> None:
        self.V, self.shape, self.dtype = V, V.shape, V.dtype
        self.reads, self.stop_at = 0, stop_at

    def block(self, i: int) -> Any:
        self.reads += 1
        if self.reads > self.stop_at:
            raise KeyboardInterrupt
        return self.V[i * HEIGHT : (i + 1) * HEIGHT]


def data_of(kind: str) -> Any:
    data = KINDS[kind][0]
    return jaxnmf.Blocks(Rows(data)) if "blocks" in kind else data


def assert_same_bits(one: Any, other: Any) -> None:
    for name in ("W", "H"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("iteration", "objective", "kkt"):
        x, y = (getattr(found.trace, name) for found in (one, other))
        np.testing.assert_array_equal(x, y)
    assert (one.status, one.iterations) == (other.status, other.iterations)


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in KINDS],
)
def test_a_run_continues_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    if kind == "mesh" and jax.device_count() < 4:
        pytest.skip("needs four devices")
    given = RUN | KINDS[kind][1]
    expected = jaxnmf.factorize(data_of(kind), RANK, pad=False, **given)
    place = tmp_path / "run"
    part = jaxnmf.factorize(
        data_of(kind), RANK, checkpoint=place, **given | {"max_iter": 4}
    )
    assert part.iterations == 4
    found = jaxnmf.factorize(data_of(kind), RANK, checkpoint=place, **given)
    assert_same_bits(found, expected)
    # The whole run is there now: nothing is iterated again.
    again = jaxnmf.factorize(data_of(kind), RANK, checkpoint=str(place), **given)
    assert_same_bits(again, expected)
    assert again.seconds == found.seconds


def test_an_interrupted_run_over_blocks_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SECONDS", 0.0)
    given = RUN | {"solver": "hals"}
    expected = jaxnmf.factorize(jaxnmf.Blocks(Rows(V)), RANK, **given)
    # In the seventh iteration, after the moments and the products of the start.
    stopped = jaxnmf.Blocks(Rows(V, stop_at=4 * (2 + 6) + 1))
    with pytest.raises(KeyboardInterrupt):
        jaxnmf.factorize(stopped, RANK, checkpoint=tmp_path, **given)
    assert names(tmp_path) == {
        "run.json",
        "at00000004-0of1.npz",
        "at00000006-0of1.npz",
    }
    source = Rows(V)
    found = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, checkpoint=tmp_path, **given)
    assert_same_bits(found, expected)
    assert source.reads == 4 * (2 + 2 + 1)  # two iterations and the relative error


def test_the_save_before_a_damaged_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SECONDS", 0.0)
    given = RUN | {"solver": "hals", "checkpoint": tmp_path}
    first = jaxnmf.factorize(V, RANK, **given)
    assert names(tmp_path) == {
        "run.json",
        "at00000006-0of1.npz",
        "at00000008-0of1.npz",
    }
    last = tmp_path / "at00000008-0of1.npz"
    last.write_bytes(last.read_bytes()[:200])
    assert_same_bits(jaxnmf.factorize(V, RANK, **given), first)
    for path in tmp_path.glob("at*"):
        path.write_bytes(b"")
    assert_same_bits(jaxnmf.factorize(V, RANK, **given), first)  # from the start


def test_a_run_whose_V_cannot_be_read_is_kept(tmp_path: Path) -> None:
    class Gone(Rows):
        def block(self, i: int) -> Any:
            if self.reads == 4 * (2 + 3):
                raise OSError("the disk is gone")
            return super().block(i)

    given = RUN | {"solver": "hals", "checkpoint": tmp_path}
    with pytest.warns(RuntimeWarning, match="the disk is gone"):
        part = jaxnmf.factorize(jaxnmf.Blocks(Gone(V)), RANK, **given)
    assert (part.status, part.iterations) == ("unreadable", 2)
    assert "at00000002-0of1.npz" in names(tmp_path)


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        (V, {"seed": 1}, "another start;"),
        (V, {"solver": "mu"}, "another solver;"),
        (V, {"l2": 1.0}, "another objective;"),
        (2.0**40 * V, {}, "another V;"),
        (V, {"record_every": 3}, "another record_every;"),
        (V, {"max_iter": 3}, "a run with 4 iterations, more than max_iter=3"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(
    data: Any, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    given = RUN | {"solver": "hals", "max_iter": 4, "checkpoint": tmp_path}
    jaxnmf.factorize(V, RANK, **given)
    before = names(tmp_path)
    with pytest.raises(ValueError, match=f"checkpoint=.* is of .*{words}"):
        jaxnmf.factorize(data, RANK, **given | changes)
    assert names(tmp_path) == before


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"checkpoint=.* cannot be used"):
        jaxnmf.factorize(V, RANK, checkpoint=tmp_path / "file", **RUN)


def test_a_full_disk_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = RUN | {"solver": "hals", "checkpoint": tmp_path}
    jaxnmf.factorize(V, RANK, **given | {"max_iter": 2})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "put", full)
    monkeypatch.setattr(folder, "SECONDS", 0.0)
    with pytest.warns(RuntimeWarning, match="No space left") as warned:
        found = jaxnmf.factorize(V, RANK, **given)
    assert len([x for x in warned if "No space" in str(x.message)]) == 1
    assert found.iterations == RUN["max_iter"]


def test_a_run_that_ran_out_of_time_goes_on_only_with_more(tmp_path: Path) -> None:
    given = RUN | {"solver": "hals", "max_iter": 10**6, "checkpoint": tmp_path}
    first = jaxnmf.factorize(V, RANK, time_budget=1e-3, **given)
    again = jaxnmf.factorize(V, RANK, time_budget=1e-3, **given)
    assert_same_bits(again, first)
    more = jaxnmf.factorize(V, RANK, time_budget=first.seconds + 1e-3, **given)
    assert more.iterations > first.iterations
