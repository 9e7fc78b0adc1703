"""Sweeps: every lane is the run of its own, few programs, nothing lost."""

from __future__ import annotations

import json
import time
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.init.start import initial_factors
from jaxnmf.run.programs import precision
from jaxnmf.solvers.hals import HALS
from jaxnmf.sweeps import buckets, plan, store
from jaxnmf.sweeps import lane as lane_module
from jaxnmf.sweeps import lanes as lanes_module
from jaxnmf.sweeps.batching import Batching, cores
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.types import pytree

RNG = np.random.default_rng(3)
V = RNG.gamma(1.0, size=(24, 3)) @ RNG.gamma(1.0, size=(3, 16))
V = V * RNG.uniform(0.7, 1.3, V.shape)
FORMS = {
    "alone": Batching(workers=1, group=1),
    "threads": Batching(workers=2, group=1, threaded=False),
    "group": Batching(workers=1, group=4),
    "both": Batching(workers=2, group=2, threaded=False),
    "devices": Batching(group=2, devices=jax.local_device_count()),
}
COMMON: dict[str, Any] = {
    "max_iter": 40,
    "tol": 1e-3,
    "dtype": "float64",
    "init": "random",
}


def single(found: Any, lane: int, data: Any = V, **given: Any) -> Any:
    """The run of a lane by itself."""
    of = found.lanes[lane]
    return jaxnmf.factorize(
        data, of.rank, seed=of.seed, **{**COMMON, "kkt": False, **of.settings, **given}
    )


def assert_same(found: Any, lane: int, expected: Any) -> None:
    result = found.result(lane)
    np.testing.assert_allclose(result.W, expected.W, atol=1e-9 * expected.W.max())
    np.testing.assert_allclose(result.H, expected.H, atol=1e-9 * expected.H.max())
    assert result.iterations == expected.iterations
    assert result.status == expected.status
    np.testing.assert_allclose(
        result.trace.objective, expected.trace.objective, rtol=1e-9
    )
    row = found.table.set_index("lane").loc[lane]
    assert row["relative_error"] == pytest.approx(expected.relative_error, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batching", FORMS)
def test_a_lane_equals_the_run_of_its_own(batching):
    found = jaxnmf.sweep(
        V, [2, 3, 5], 3, settings={"l2": [0.0, 0.5]}, batching=FORMS[batching], **COMMON
    )
    assert found.complete
    assert len(found.table) == 18
    assert len({int(x) for x in found.table["iterations"]}) > 1  # they stop apart
    for lane in range(0, 18, 5):
        assert_same(found, lane, single(found, lane))


@pytest.mark.slow
@pytest.mark.parametrize("weighed", [False, True])
def test_lanes_of_a_tall_matrix_begin_and_end_as_runs_of_their_own(weighed):
    tall = np.tile(V, (4, 1)) * RNG.uniform(0.9, 1.1, (96, 16))
    mask = RNG.uniform(0.5, 1.0, tall.shape) if weighed else None
    given: dict[str, Any] = {"mask": mask}
    found = jaxnmf.sweep(tall, [2, 3], 3, batching=FORMS["group"], **given, **COMMON)
    if jax.default_backend() == "cpu":
        assert found.builder.problems[0].operand.transposed
    expected = single(found, 4, tall, **given)
    assert_same(found, 4, expected)
    of = found.lanes[4]
    start = found.builder.start(of, found.builder.problem(of))
    with precision("float64") as dtype:
        operand = as_operand(tall, dtype, mask=mask)
        same = initial_factors(operand, of.rank, "random", of.seed)
    jax.tree.map(np.testing.assert_array_equal, start, same)


def test_lanes_are_shared_out_evenly_and_narrow_groups_are_few():
    widths = {n: plan.group_width(n, 2) for n in (1, 2, 10, 20, 60, 1000)}
    assert widths == {1: 1, 2: 1, 10: 5, 20: 5, 60: 8, 1000: 8}
    wide, four = Batching(group=256), Batching(group=64, devices=4)
    for one in (wide, four):
        widths = [one.width(n) for n in (256, 65, 64, 16, 3)]
        assert widths == [256, 256, 64, 16, 16]
    assert Batching(group=8).width(1) == 8


def test_more_devices_than_there_are_are_refused():
    many = Batching(devices=jax.local_device_count() + 1)
    with pytest.raises(ValueError, match="batching: devices="):
        jaxnmf.sweep(V, [2], 2, batching=many, **COMMON)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5])
def test_a_lane_draws_with_the_key_of_its_seed(seed):
    given: dict[str, Any] = {**COMMON, "tol": 0.0, "dtype": "float32"}
    found = jaxnmf.sweep(
        V, [3], [seed], solver="compressed", batching=FORMS["group"], **given
    )
    alone = jaxnmf.factorize(V, 3, seed=seed, solver="compressed", kkt=False, **given)
    assert found.result(0).objective == pytest.approx(alone.objective, rel=1e-4)


def test_a_last_record_may_be_shorter_than_the_others():
    given: dict[str, Any] = {**COMMON, "max_iter": 27, "tol": 0.0}
    found = jaxnmf.sweep(V, [2, 3], 3, batching=FORMS["group"], **given)
    assert set(found.table["iterations"]) == {27}
    for lane in (0, 5):
        assert_same(found, lane, single(found, lane, **given))


# --- On a mesh ------------------------------------------------------------------------

several = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
HEAVY = np.where(RNG.random(V.shape) < np.linspace(0.9, 0.1, len(V))[:, None], V, 0)


@pytest.mark.slow
@several
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("dense", marks=pytest.mark.slow),
        "sparse",
        pytest.param("observed", marks=pytest.mark.slow),
    ],
)
def test_lanes_on_a_mesh_are_runs_of_one_device(kind):
    """Of a V that does not divide over the devices, whose entries are in few rows."""
    data: Any = {"dense": V, "sparse": scipy.sparse.csr_array(HEAVY), "observed": V}
    data, given = data[kind][:23, :15], {"solver": "hals"}
    if kind == "observed":
        given["mask"] = HEAVY[:23, :15] > 0
    found = jaxnmf.sweep(
        data, [2, 3], 2, settings={"l2": [0.0, 0.5]}, mesh="grid", **given, **COMMON
    )
    assert [one["group"] for one in found.batching.values()] == [1]
    for lane in (0, 3, 7):
        assert_same(found, lane, single(found, lane, data, **given))
    (on_mesh,) = found.builder.on_mesh.values()
    stored = jax.tree.leaves(on_mesh.operand)[0]
    assert len(stored.sharding.device_set) == jax.device_count()


@several
@pytest.mark.slow
def test_data_of_each_seed_on_a_mesh(tmp_path):
    """Held-out entries differ from seed to seed, and so do the blocks of devices."""
    turned = HEAVY[::-1].copy()
    turned[:, 3] = np.roll(turned[:, 3], 5)
    both = [scipy.sparse.csr_array(X) for X in (HEAVY, turned)]
    masks = [X > 0 for X in both]
    data = DataPerSeed(both, masks)
    given = {"solver": "hals", "folder": tmp_path, **COMMON}
    found = jaxnmf.sweep(data, [2], 2, mesh="grid", **given)
    for lane, one in enumerate(data.data):
        expected = single(found, lane, one, mask=masks[lane], solver="hals")
        assert_same(found, lane, expected)
    again = jaxnmf.sweep(data, [2], 2, **given)  # without a mesh: nothing to run
    assert not again.batching


@several
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mesh": "row"}, "mesh='row' is not known.*did you mean 'rows'"),
        ({"mesh": "grid", "solver": "hals-online"}, "needs a V whose shape divides"),
        ({"mesh": "grid", "batching": Batching()}, "batching=.* with a mesh"),
        (
            {"mesh": "grid", "graph": (np.eye(23, k=1) + np.eye(23, k=-1), None)},
            "graph",
        ),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.sweep(V[:23], [2], 2, **{"solver": "hals", **given})


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["threads", "group", "devices"])
def test_sparse_and_observed_data_sweep_as_dense_ones_do(batching):
    holes = V * (RNG.random(V.shape) < 0.6)
    sparse = scipy.sparse.csr_array(holes)
    # "extrapolated" goes on or back by the last digit.
    given: dict[str, Any] = {"solver": "hals"}
    found = jaxnmf.sweep(sparse, [2, 3], 2, batching=FORMS[batching], **given, **COMMON)
    assert_same(found, 3, single(found, 3, sparse, **given))
    given |= {"mask": holes > 0, "offsets": True, "toward": "mean"}
    found = jaxnmf.sweep(
        V,
        [2, 3],
        2,
        batching=FORMS[batching],
        settings={"l2": [0.3]},
        **given,
        **COMMON,
    )
    expected = single(found, 0, V, **given)
    assert_same(found, 0, expected)
    offsets = found.result(0).offsets
    np.testing.assert_allclose(offsets.rows, expected.offsets.rows, rtol=1e-8)


def test_one_program_a_bucket_and_none_a_seed_or_setting():
    calls = []

    @pytree
    class Counted(HALS):
        gain: float = 1.0

        def nnls(self, *args: Any) -> Any:
            calls.append(1)
            return super().nnls(*args)

    def run(ranks: Any, seeds: Any, **given: Any) -> Any:
        batching = FORMS["alone"]
        return jaxnmf.sweep(
            V, ranks, seeds, solver=Counted(), batching=batching, **given
        )

    found = run([2, 3, 8], 2, max_iter=20)
    first = len(calls)
    assert len(found.buckets["sizes"]) == 2
    assert first == 2 * 2  # two half-steps a program
    run([2, 3, 8], [7, 9], max_iter=20, settings={"gain": [1.0, 2.0], "l1": [0.1, 0.2]})
    assert len(calls) == first


@pytest.mark.parametrize("batching", ["alone", "group"])
def test_programs_in_double_are_compiled_for_close_fits_alone(batching, monkeypatch):
    of_records = []

    def count(name: str) -> None:
        unchanged = getattr(lanes_module, name)

        def counted(*args: Any, in_single: bool, **how: Any) -> Any:
            of_records.append(in_single)
            return unchanged(*args, in_single=in_single, **how)

        monkeypatch.setattr(lanes_module, name, counted)

    count("start_run")
    count("continue_run")
    lanes_module._functions.cache_clear()
    how: Any = {"batching": FORMS[batching], "tol": 0.0, "dtype": "float32"}
    jaxnmf.sweep(V, [3], 6, max_iter=30, **how)
    assert set(of_records) == {True}
    # The first is close after a while, the second at once: its start is exact.
    for rank, init in ((2, "random"), (1, "nndsvd")):
        exact = (RNG.random((24, rank)) @ RNG.random((rank, 16))).astype(np.float32)
        of_records.clear()
        found = jaxnmf.sweep(exact, [rank], 6, init=init, max_iter=200, **how)
        assert set(of_records) == {True, False}
        for lane, error in zip(found.lanes, found.table["relative_error"], strict=True):
            W, H = (np.asarray(X, float) for X in found.factors(lane.seed))
            expected = np.linalg.norm(exact - W @ H) / np.linalg.norm(exact)
            assert expected < 1e-4
            assert error == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("ranks", "most"), [(range(2, 11), 3), ([5], 1), ([4, 5, 6], 1), ([1, 30], 2)]
)
def test_buckets_waste_less_than_a_quarter(ranks, most):
    sizes = buckets.buckets(list(ranks))
    assert all(sizes[rank] >= rank for rank in ranks)
    assert len(set(sizes.values())) <= most
    assert 0 <= buckets.waste(list(ranks), sizes) < 0.25


def test_fewer_buckets_would_waste_more():
    ranks = list(range(2, 11))
    used = len(set(buckets.buckets(ranks).values()))
    for ends in ([10], *([end, 10] for end in range(2, 10))):
        if len(ends) < used:
            sizes = {r: next(e for e in ends if e >= r) for r in ranks}
            assert buckets.waste(ranks, sizes) >= 0.25


def test_best_and_factors():
    found = jaxnmf.sweep(V, [2, 3], 4, **COMMON)
    table = found.table
    for rank in (2, 3):
        losses = table[table["rank"] == rank]["objective"]
        assert found.best(rank).objective == losses.min()
    assert found.best().objective == table["objective"].min()
    W, H = found.factors(5)
    assert W.shape == (24, 3)
    assert H.shape == (3, 16)
    with pytest.raises(ValueError, match=r"lane=99.*0 … 7"):
        found.result(99)
    with pytest.raises(ValueError, match=r"rank 9.*\[2, 3\]"):
        found.best(9)


def test_a_lane_that_diverges_is_marked_and_the_others_are_untouched():
    found = jaxnmf.sweep(
        V,
        [2],
        2,
        solver="pgd",
        settings={"step_size": [1.0, 1e300]},
        max_iter=30,
        dtype="float64",
        batching=FORMS["group"],
    )
    assert found.complete
    by = found.table.groupby("step_size")["status"].agg(list)
    assert set(by[1e300]) == {"diverged"}
    assert "diverged" not in by[1.0]
    alone = jaxnmf.factorize(
        V, 2, solver="pgd", init="random", max_iter=30, dtype="float64"
    )
    assert found.result(0).objective == pytest.approx(alone.objective, rel=1e-9)
    assert found.best(2).objective < np.inf


def test_a_setting_without_a_default_is_swept_too():
    found = jaxnmf.sweep(
        V, [2], 1, solver="optax", settings={"learning_rate": [0.01, 0.1]}, **COMMON
    )
    for lane, rate in enumerate((0.01, 0.1)):
        options = {"learning_rate": rate}
        alone = jaxnmf.factorize(
            V, 2, solver="optax", solver_options=options, kkt=False, **COMMON
        )
        assert found.result(lane).objective == pytest.approx(alone.objective, rel=1e-8)


def test_the_form_is_chosen_by_the_first_lanes():
    given: dict[str, Any] = {**COMMON, "max_iter": 3, "record_every": 1}
    found = jaxnmf.sweep(V, [2], 48 * cores(), **given)
    groups = {entry["group"] for entry in found.batching.values()}
    assert found.complete
    assert groups == ({1, plan.GROUP} if jax.default_backend() == "cpu" else {})
    assert all(entry["seconds_per_work"] > 0 for entry in found.batching.values())


# --- Nothing is lost ------------------------------------------------------------------


def test_a_sweep_in_a_folder_goes_on_where_it_was_cut(tmp_path, monkeypatch):
    whole = jaxnmf.sweep(V, [2, 3], 3, folder=tmp_path / "whole", **COMMON)
    made = []
    original = lane_module.LaneBuilder.task

    def cut(self: Any, lane: Any) -> Any:
        made.append(lane)
        if len(made) > 4:
            raise KeyboardInterrupt
        return original(self, lane)

    given: dict[str, Any] = {"folder": tmp_path / "cut", "batching": FORMS["alone"]}
    monkeypatch.setattr(lane_module.LaneBuilder, "task", cut)
    with pytest.warns(UserWarning, match=r"interrupted with 4 of 6.*saved in"):
        part = jaxnmf.sweep(V, [2, 3], 3, **given, **COMMON)
    assert not part.complete
    assert len(part.table) == 2
    with pytest.raises(ValueError, match="is unfinished"):
        part.result(next(i for i, run in enumerate(part.runs) if run is None))
    made.clear()
    monkeypatch.setattr(
        lane_module.LaneBuilder,
        "task",
        lambda self, lane: made.append(lane) or original(self, lane),
    )
    rest = jaxnmf.sweep(V, [2, 3], 3, **given, **COMMON)
    assert rest.complete
    assert len(made) == 4 + 2  # what was missing, and the first look at each rank
    for a, b in zip(rest.runs, whole.runs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a.factors, b.factors)
        np.testing.assert_array_equal(a.trace.objective, b.trace.objective)


def test_a_folder_of_another_sweep_is_refused(tmp_path):
    jaxnmf.sweep(V, [2], 1, folder=tmp_path, **COMMON)
    with pytest.raises(ValueError, match=r"another data"):
        jaxnmf.sweep(2 * V, [2], 1, folder=tmp_path, **COMMON)
    with pytest.raises(ValueError, match=r"another solver"):
        jaxnmf.sweep(V, [2], 1, folder=tmp_path, solver="mu", **COMMON)
    card = json.loads((tmp_path / "sweep.json").read_text())
    assert card["solver"][0] == "extrapolated"
    # More lanes of the same sweep are welcome.
    assert len(jaxnmf.sweep(V, [2, 3], 2, folder=tmp_path, **COMMON).table) == 4


@pytest.mark.parametrize("batching", FORMS)
def test_a_finished_sweep_is_read_again_in_any_form(batching, tmp_path, monkeypatch):
    given: dict[str, Any] = {"folder": tmp_path, "batching": FORMS[batching], **COMMON}
    first = jaxnmf.sweep(V, [2, 3], 2, **given)
    monkeypatch.setattr(
        lanes_module.Runner, "run", lambda *_: pytest.fail("was run again")
    )
    assert list(jaxnmf.sweep(V, [2, 3], 2, **given).table) == list(first.table)


@pytest.mark.slow
def test_seeds_that_are_added_do_not_take_lanes_of_other_data(tmp_path):
    """A seed's data are those of its place among the seeds."""
    given: dict[str, Any] = {"folder": tmp_path, **COMMON}
    several = lane_module.DataPerSeed([V, 2 * V])
    jaxnmf.sweep(several, [2], [1, 2], **given)
    more = jaxnmf.sweep(several, [2], [0, 1, 2], **given)
    for lane, run in zip(more.lanes, more.runs, strict=True):
        assert run is not None
        size = 2 - (lane.seed in (0, 2))  # seed 1 now works on the second
        found = run.factors.Wt.T @ run.factors.H
        assert found.mean() == pytest.approx(size * V.mean(), rel=0.05)


def test_a_sweep_is_known_by_what_its_own_loss_does(tmp_path):
    def loss(weight):
        return lambda v, x: weight * (v - x) ** 2 / (1 + x)

    given: dict[str, Any] = {"solver": "pgd", "folder": tmp_path, **COMMON}
    given = {k: v for k, v in given.items() if k != "loss"}
    jaxnmf.sweep(V, [2], 1, loss=loss(1.0), **given)
    assert jaxnmf.sweep(V, [2], 1, loss=loss(1.0), l1=(0.0, 0.0), **given).complete
    with pytest.raises(ValueError, match="another loss"):
        jaxnmf.sweep(V, [2], 1, loss=loss(2.0), **given)
    with pytest.raises(ValueError, match="another loss"):
        jaxnmf.sweep(V, [2], 1, loss=lambda v, x: (v - x) ** 2, **given)


def test_a_finished_lane_is_on_disk_before_the_next_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SAVE_SECONDS", 0.0)
    seen, add = [], store.LaneStore.add

    def slowly(self: Any, key: str, run: Any) -> None:
        seen.append(len(list(tmp_path.glob("lanes-*.npz"))))
        add(self, key, run)
        time.sleep(0.2)

    monkeypatch.setattr(store.LaneStore, "add", slowly)
    jaxnmf.sweep(V, [2], 3, folder=tmp_path, batching=FORMS["alone"], **COMMON)
    assert seen == [0, 1, 2]


def test_lanes_that_cannot_be_written_are_in_the_result(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    jaxnmf.sweep(V, [2], 1, folder=tmp_path, **COMMON)
    monkeypatch.setattr(store, "put", full)
    with pytest.warns(UserWarning, match="No space left"):
        found = jaxnmf.sweep(V, [2], 2, folder=tmp_path, **COMMON)
    assert found.complete


def test_a_damaged_file_is_run_again(tmp_path):
    first = jaxnmf.sweep(V, [2], 2, folder=tmp_path, **COMMON)
    (path,) = tmp_path.glob("lanes-*.npz")
    path.write_bytes(path.read_bytes()[:100])
    again = jaxnmf.sweep(V, [2], 2, folder=tmp_path, **COMMON)
    assert again.complete
    assert again.best().objective == first.best().objective


# --- Refused by name ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": []}, "ranks is empty"),
        ({"ranks": 3}, "ranks=3 must be a list"),
        ({"ranks": [2, 2]}, "contains duplicates"),
        ({"ranks": [0]}, r"ranks=0 must be an integer ≥ 1"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "contains duplicates"),
        ({"seeds": [-1]}, "seeds=-1"),
        ({"seeds": 0}, "seeds=0"),
        ({"settings": {"stepsize": [1.0]}}, "no float setting 'stepsize'"),
        ({"settings": {"l1": []}}, "at least one number"),
        ({"settings": {"l1": [-1.0]}}, "l1"),
        ({"settings": {"l1": [1.0, 1.0]}}, "contains duplicates"),
        ({"settings": {"l1": ["a"]}}, "finite number"),
        ({"init": (V, V)}, "init must be a name"),
        ({"init": "nndsvd", "ranks": [40]}, r"needs rank ≤ min\(m, n\)"),
        ({"max_memory": 10.0}, "too little for one lane"),
        ({"solver": "hals", "loss": "kl"}, "does not support the loss"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(given, message, monkeypatch):
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled")

    monkeypatch.setattr(lanes_module, "compiled", never)
    given = {"ranks": [2], "seeds": [0], **given}
    with pytest.raises(ValueError, match=message):
        jaxnmf.sweep(V, given.pop("ranks"), given.pop("seeds"), **given)


def test_little_memory_narrows_the_form():
    builder = jaxnmf.sweep(V, [2], 1, **COMMON).builder
    task = builder.task(lane_module.Lane(2, 0, {}))
    wide = Batching(workers=2, group=64, threaded=False)
    assert plan.fit_memory(None, wide, task, 10) == wide
    narrow = plan.fit_memory(2e5, wide, task, 10)
    assert narrow.workers * narrow.group < 128
    least = plan.fit_memory(1.2e4, wide, task, 10)
    assert (least.workers, least.group) == (1, 1)


# --- Several data ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["threads", "group", "devices"])
def test_seeds_take_several_data_in_turn(batching):
    other = V * RNG.uniform(0.9, 1.1, V.shape)
    several = lane_module.DataPerSeed([V, other])
    found = jaxnmf.sweep(several, [2, 3], [4, 5, 6], batching=FORMS[batching], **COMMON)
    for lane in (0, 1, 5):
        data = (V, other, V)[lane % 3]
        assert_same(found, lane, single(found, lane, data))


def test_several_masks_of_one_matrix():
    masks = [RNG.random(V.shape) < 0.8 for _ in range(2)]
    several = lane_module.DataPerSeed([V, V], masks)
    found = jaxnmf.sweep(several, [2], 3, batching=FORMS["group"], **COMMON)
    for lane in range(3):
        assert_same(found, lane, single(found, lane, V, mask=masks[lane % 2]))


@pytest.mark.parametrize(
    ("data", "masks", "message"),
    [
        ([], None, "0 masks and 0 data"),
        ([V], [None, None], "2 masks and 1 data"),
        ([V, V[1:]], None, "differ in shape"),
        ([V, scipy.sparse.csr_array(V)], None, "differ in shape, kind"),
    ],
)
def test_several_data_that_do_not_fit_are_refused(data, masks, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.sweep(lane_module.DataPerSeed(data, masks), [2], 2, **COMMON)


@pytest.mark.parametrize("init", ["random", "nndsvda"])
def test_the_table_and_a_result_draw_no_start(init, monkeypatch):
    found = jaxnmf.sweep(V, [2, 3], 2, **{**COMMON, "init": init})
    monkeypatch.setattr(
        lane_module, "draw_start", lambda *_: pytest.fail("a start was drawn")
    )
    assert len(found.table) == 4
    assert found.best(3).W.shape == (24, 3)


def test_a_sweep_of_another_version_is_refused(tmp_path):
    jaxnmf.sweep(V, [2], 1, folder=tmp_path, **COMMON)
    card = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**card, "version": "0.0.7"}))
    with pytest.raises(ValueError, match=r"contains a sweep of jaxnmf 0\.0\.7"):
        jaxnmf.sweep(V, [2], 1, folder=tmp_path, **COMMON)
