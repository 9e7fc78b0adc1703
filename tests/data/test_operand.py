"""Operands against NumPy: blocks, both orientations, dense and sparse alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import sparse

from jaxnmf.data import csr, padded_rows
from jaxnmf.data import dense as dense_module
from jaxnmf.data import sparse as sparse_module
from jaxnmf.data.convert import as_operand
from jaxnmf.data.dense import Dense
from jaxnmf.data.sparse import Sparse
from jaxnmf.objective.losses import Frobenius, KullbackLeibler
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import precision
from jaxnmf.types import Factors

M, N, RANK = 12, 8, 3
RNG = np.random.default_rng(5)
V = RNG.random((M, N)) + 0.1
# With empty rows and columns, and explicit zeros where it is stored.
HOLES = V * (RNG.random((M, N)) < 0.4)
HOLES[3], HOLES[-1], HOLES[:, 2] = 0, 0, 0
W, H, OTHER = (RNG.random((RANK, size)) for size in (M, N, N))

each_side = pytest.mark.parametrize("side", ["upright", "transposed"])


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def products(v, x):
    """Two entrywise functions of different size."""
    return v * x, v / x


def changed(v, x, y):
    return v * jnp.log(y / x) + y - x


@jax.jit
def questions(operand, fixed, free, other):
    """Everything an operand answers."""
    return {
        "dot": operand.dot(fixed),
        "sum": operand.map_sum(lambda v, x: v / x, fixed, free),
        "sum of two": operand.map_sum(changed, fixed, free, other),
        "pull": operand.map_dot(products, fixed, free),
        "pulls": operand.map_dot_both(products, fixed, free),
    }


def answers(data, stored, fixed, free, other):
    """The same in NumPy, summed where ``stored``."""
    x, y = fixed.T @ free, fixed.T @ other
    safe = np.where(stored, data, 0)
    parts = [safe * x, safe / x]
    entries = np.where(stored, data * np.log(y / x) + y - x, 0)
    return {
        "dot": fixed @ data,
        "sum": parts[1].sum(),
        "sum of two": entries.sum(),
        "pull": tuple(fixed @ part for part in parts),
        "pulls": (
            tuple(fixed @ part for part in parts),
            tuple(free @ part.T for part in parts),
        ),
    }


def assert_answers(operand, data, side, stored=True, questions=questions):
    """That the operand, or its transpose, answers as NumPy does for ``data``."""
    fixed, free, other = W, H, OTHER
    stored = np.broadcast_to(stored, data.shape)
    if side == "transposed":
        operand, data, stored = operand.T, data.T, stored.T
        fixed, free, other = H, W, W[::-1]
    assert operand.shape == data.shape
    found = questions(operand, *map(jnp.asarray, (fixed, free, other)))
    expected = answers(data, stored, fixed, free, other)
    for name, value in expected.items():
        pairs = zip(jax.tree.leaves(found[name]), jax.tree.leaves(value), strict=True)
        for x, y in pairs:
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14, err_msg=name)


def blocked(data, block):
    dense = as_operand(data, "float64")
    assert isinstance(dense, Dense)
    return dataclasses.replace(dense, block=block)


# --- Dense ---------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("block", [1, 5, 7, 11, 12])
def test_dense_answers_in_blocks_of_any_size(block, side):
    assert_answers(blocked(V, block), V, side)


@pytest.mark.parametrize("entries", [1, 3 * N, 10**6])
def test_as_matrix_chooses_blocks_that_fit(monkeypatch, entries):
    monkeypatch.setattr(dense_module, "CPU_BLOCK", entries)
    monkeypatch.setattr(dense_module, "ACCELERATOR_BLOCK", entries)
    dense = as_operand(V, "float64")
    assert isinstance(dense, Dense)
    assert dense.block == {1: 1, 3 * N: 3, 10**6: M}[entries]
    assert_answers(dense, V, "upright")


def test_transposing_twice_is_nothing_and_copies_nothing():
    dense = as_operand(V, "float64")
    assert isinstance(dense, Dense)
    assert dense.T.array is dense.array
    assert dense.T.T.shape == (M, N)
    np.testing.assert_array_equal(dense.to_host(), V)
    np.testing.assert_array_equal(dense.T.to_host(), V.T)


@pytest.mark.parametrize("block", [5, 12])
def test_entries_of_the_product_are_kept_above_a_floor_in_products(block):
    fixed = W.copy()
    fixed[:, :2] = 0
    x = np.maximum(fixed.T @ H, 1e-10 * V.mean())
    found = questions(blocked(V, block), *map(jnp.asarray, (fixed, H, OTHER)))
    assert found["sum"] == np.inf
    np.testing.assert_allclose(found["pull"][1], fixed @ (V / x), rtol=1e-12)


@pytest.mark.parametrize(
    "given",
    [
        V.tolist(),
        V.astype(np.float32),
        np.asfortranarray(V),
        (10 * V).astype(np.int32),
        V > 0.5,
        np.matrix([[1.0, 2.0]]),
    ],
    ids=["list", "float32", "fortran", "int", "bool", "matrix"],
)
def test_dense_takes_whatever_numpy_takes(given):
    dense = as_operand(given, "float64")
    assert dense.dtype == np.float64
    np.testing.assert_array_equal(dense.to_host(), np.asarray(given, np.float64))


# --- Sharded -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
@pytest.mark.parametrize("axes", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("spec", [("a", "b"), ("a", None), (None, "b")], ids=str)
def test_a_sharded_array_answers_like_a_whole_one(spec, axes):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axes, axes))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    array = jax.device_put(jnp.asarray(V), sharding)
    dense = as_operand(array, "float64")
    assert isinstance(dense, Dense)
    # It stays where it is.
    assert len(dense.array.devices()) == 4
    shard = dense.array.addressable_shards[0].data
    assert shard.shape == array.addressable_shards[0].data.shape
    assert_answers(dense, V, "upright")
    assert_answers(dense, V, "transposed")


# --- Sparse --------------------------------------------------------------------------


def duplicated():
    """HOLES in coordinates, every entry split in two, and some zeros stored."""
    rows, columns = np.nonzero(HOLES)
    part = 0.25 * HOLES[rows, columns]
    order = np.random.default_rng(0).permutation(2 * rows.size)
    data = np.concatenate([part, 3 * part])[order]
    where = (np.tile(rows, 2)[order], np.tile(columns, 2)[order])
    return sparse.coo_array((data, where), shape=HOLES.shape)


def with_zeros():
    """HOLES with two explicit zeros in an empty row and column."""
    rows, columns = np.nonzero(HOLES)
    data = np.append(HOLES[rows, columns], [0.0, 0.0])
    where = (np.append(rows, [3, 0]), np.append(columns, [1, 2]))
    return sparse.csr_array(sparse.coo_array((data, where), shape=HOLES.shape))


def long_indices():
    """HOLES with 64-bit indices, each row backwards."""
    csr = sparse.csr_array(HOLES)
    for start, end in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        csr.indices[start:end] = csr.indices[start:end][::-1].copy()
        csr.data[start:end] = csr.data[start:end][::-1].copy()
    csr.indices, csr.indptr = csr.indices.astype("i8"), csr.indptr.astype("i8")
    csr.has_sorted_indices = False
    return csr


def repeated_rows():
    """CSR with each entry twice in its row."""
    csr = sparse.csr_array(HOLES)
    parts = (np.repeat(csr.data / 2, 2), np.repeat(csr.indices, 2), 2 * csr.indptr)
    found = sparse.csr_array(parts, shape=HOLES.shape)
    found.has_canonical_format = False
    return found


LAYOUTS = {
    "csr": lambda: sparse.csr_array(HOLES),
    "csc matrix": lambda: sparse.csc_matrix(HOLES),
    "duplicates": duplicated,
    "duplicates in csr": repeated_rows,
    "explicit zeros": with_zeros,
    "int64 unsorted": long_indices,
}


@each_side
@pytest.mark.parametrize("together", [2**16, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_answers_over_its_stored_entries(monkeypatch, layout, together, side):
    """Also with the entries in blocks of few columns."""
    monkeypatch.setattr(csr, "COLUMNS_TOGETHER", together)
    monkeypatch.setattr(csr, "ROW_ENTRIES", 1)
    given = LAYOUTS[layout]()
    stored = HOLES > 0
    if layout == "explicit zeros":
        stored = stored.copy()
        stored[3, 1] = stored[0, 2] = True
    operand = as_operand(given, "float64")
    assert isinstance(operand, Sparse)
    assert operand.entries == stored.sum()
    assert (min(operand.csr.blocks, operand.csr_t.blocks) > 1) == (together == 3)
    assert_answers(operand, HOLES, side, stored)
    np.testing.assert_array_equal(operand.to_host().toarray(), HOLES)
    thin = operand.without_rows()
    for one, same in ((operand.csr, thin.csr), (operand.csr_t, thin.csr_t)):
        assert same.each_row is None
        np.testing.assert_array_equal(same.rows, one.each_row)


def compiled_anew(function):
    """The function, jitted apart from earlier calls with other module constants."""
    return jax.jit(lambda *arguments: function(*arguments))


@each_side
@pytest.mark.parametrize("entries", [1, 3 * N, 10**6])
def test_values_at_the_stored_entries_come_from_blocks_of_any_size(
    monkeypatch, entries, side
):
    monkeypatch.setattr(sparse_module, "BLOCKS_FROM", 0.0)
    monkeypatch.setattr(sparse_module, "X_BLOCK", entries)
    operand = as_operand(sparse.csr_array(HOLES), "float64")
    ask = compiled_anew(questions.__wrapped__)
    assert_answers(operand, HOLES, side, HOLES > 0, ask)


@pytest.mark.parametrize(("rank", "blocks"), [(9, False), (11, True)])
def test_blocks_are_chosen_by_density_and_rank(rank, blocks):
    """A tenth of the entries are stored; one product of matrices where they pay."""
    data = (np.arange(200).reshape(20, 10) % 10 == 3) * 1.0
    operand = as_operand(sparse.csr_array(data), "float64")
    factors = jnp.ones((rank, 20)), jnp.ones((rank, 10))
    program = jax.make_jaxpr(lambda *x: operand.map_sum(lambda v, x: v * x, *x))(
        *factors
    )
    assert ("dot_general" in str(program)) == blocks


def test_lanes_take_values_from_blocks(monkeypatch):
    monkeypatch.setattr(sparse_module, "BLOCKS_FROM", 0.0)
    monkeypatch.setattr(sparse_module, "X_BLOCK", 3 * N)
    operand = as_operand(sparse.csr_array(HOLES), "float64")
    fixed, free = RNG.random((4, RANK, M)), RNG.random((4, RANK, N))
    pull = jax.vmap(lambda w, h: operand.map_dot(products, w, h))
    x = fixed.transpose(0, 2, 1) @ free
    pulled = pull(jnp.asarray(fixed), jnp.asarray(free))
    for found, y in zip(pulled, (HOLES * x, HOLES / x), strict=True):
        np.testing.assert_allclose(found, fixed @ y, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 12, 10**6])
def test_padded_rows_are_the_compiled_product(monkeypatch, rows):
    """Rows of every length, none and all among them, in passes of any size."""
    monkeypatch.setattr(csr, "COMPILED", ())
    monkeypatch.setattr(padded_rows, "PASS", rows)
    data = (RNG.random((40, 23)) + 0.1) * (RNG.random((40, 23)) < RNG.random((40, 1)))
    data[3], data[7], data[:, 5] = 0, 1, 0
    operand = as_operand(sparse.csr_array(data), "float64")
    assert isinstance(operand, Sparse)
    for side, there in ((operand, data), (operand.T, data.T)):
        padded = side.csr_t.padded
        assert padded is not None
        stored = sum(place.size for place in padded.places)
        assert stored <= 2 * operand.entries + there.shape[1]
        fixed = RNG.random((4, RANK, there.shape[0]))
        free = RNG.random((4, RANK, there.shape[1]))
        found = jax.vmap(side.dot)(jnp.asarray(fixed))
        np.testing.assert_allclose(found, fixed @ there, rtol=1e-12)
        pull = jax.vmap(lambda w, h, side=side: side.map_dot(products, w, h)[0])
        pulled = pull(jnp.asarray(fixed), jnp.asarray(free))
        expected = fixed @ (there * (fixed.transpose(0, 2, 1) @ free))
        np.testing.assert_allclose(pulled, expected, rtol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_leaves_what_it_is_given_as_it_was(layout):
    given, twin = LAYOUTS[layout](), LAYOUTS[layout]()
    operand = as_operand(given, "float64")
    np.testing.assert_array_equal(operand.to_host().toarray(), HOLES)
    np.testing.assert_array_equal(operand.T.to_host().toarray(), HOLES.T)
    np.testing.assert_array_equal(given.data, twin.data)
    names = ("row", "col") if given.format == "coo" else ("indices", "indptr")
    for name in names:
        np.testing.assert_array_equal(getattr(given, name), getattr(twin, name))


@each_side
def test_sparse_with_no_stored_entry(side):
    empty = as_operand(sparse.csr_array((M, N)), "float64")
    assert empty.entries == 0
    assert_answers(empty, np.zeros((M, N)), side, stored=False)


@pytest.mark.parametrize("loss", [Frobenius(), KullbackLeibler()], ids=lambda x: x.name)
def test_loss_of_a_sparse_matrix_with_no_stored_entry(loss):
    problem = Problem.of(as_operand(sparse.csr_array((M, N)), "float64"), loss)
    X = W.T @ H
    expected = 0.5 * (X**2).sum() if loss.quadratic else X.sum()
    found = problem.value(Factors(jnp.asarray(W), jnp.asarray(H)))
    assert float(found) == pytest.approx(expected, rel=1e-12)


@each_side
def test_lanes_share_one_sparse_product(side):
    operand = as_operand(sparse.csr_array(HOLES), "float64")
    data = HOLES
    if side == "transposed":
        operand, data = operand.T, data.T
    fixed = RNG.random((4, RANK, data.shape[0]))
    free = RNG.random((4, RANK, data.shape[1]))
    dots = jax.vmap(operand.dot)(jnp.asarray(fixed))
    np.testing.assert_allclose(dots, fixed @ data, rtol=1e-12)
    # Here the values differ from lane to lane too.
    pull = jax.vmap(lambda w, h: operand.map_dot(products, w, h))
    x = fixed.transpose(0, 2, 1) @ free
    pulled = pull(jnp.asarray(fixed), jnp.asarray(free))
    for found, y in zip(pulled, (data * x, data / x), strict=True):
        np.testing.assert_allclose(found, fixed @ y, rtol=1e-12)


# --- Numbers -------------------------------------------------------------------------


def nearly_exact():
    """V = WH and noise of a ten-thousandth, all in single precision."""
    rng = np.random.default_rng(8)
    fixed, free = rng.random((5, 60)) + 0.5, rng.random((5, 40)) + 0.5
    noise = 1 + 1e-4 * rng.standard_normal((60, 40))
    data = fixed.T @ free * noise
    return tuple(x.astype(np.float32) for x in (data, fixed, free))


@pytest.mark.slow
def test_a_nearly_exact_fit_keeps_its_digits_in_single_precision():
    data, fixed, free = nearly_exact()
    truth = [x.astype(np.float64) for x in (data, fixed, free)]
    expected = 0.5 * ((truth[0] - truth[1].T @ truth[2]) ** 2).sum()
    with precision("float32"):
        problem = Problem.of(as_operand(data, "float32"), Frobenius())
        factors = Factors(jnp.asarray(fixed), jnp.asarray(free))
        value = problem.value(factors)
        gram, cross = problem.quadratic(factors.Wt)
        square = (problem.operand.to_host() ** 2).sum(dtype=np.float32)
        H32, G = factors.H, gram.array
        trick = 0.5 * (square - 2 * (cross * H32).sum() + (G * (H32 @ H32.T)).sum())
        assert value.dtype == trick.dtype == jnp.float32
    assert float(value) == pytest.approx(expected, rel=1e-2)
    # The cheaper formula, here in single precision too, has not one digit.
    assert abs(float(trick) - expected) > 0.5 * expected


def test_a_long_sum_in_single_precision_does_not_drift():
    ones = np.ones((3000, 1000), np.float32)
    with precision("float32"):
        dense = as_operand(ones, "float32")
        fixed, free = jnp.ones((1, 3000)), jnp.ones((1, 1000))
        found = dense.map_sum(lambda v, x: jnp.float32(0.1) * v * x, fixed, free)
    assert float(found) == pytest.approx(3e5, rel=1e-5)


# --- Memory --------------------------------------------------------------------------


def temporary_bytes(block, method):
    """What the compiled program holds beside its arguments and results."""
    m, n, p = 512, 256, 3

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    with precision("float32"):
        zero = shape()
        like = Problem.of(as_operand(np.ones((1, 1))), KullbackLeibler())
        dense = dataclasses.replace(
            like.operand, array=shape(m, n), floor=zero, block=block
        )
        problem = dataclasses.replace(like, operand=dense)
        factors = Factors(shape(p, m), shape(p, n))  # pyright: ignore
        program = jax.jit(method).lower(problem, factors).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("method", [Problem.value, Problem.gradients])
def test_no_temporary_of_the_size_of_v(method):
    block = 16
    block_bytes = 4 * block * 256
    whole = temporary_bytes(512, method)
    assert whole >= 32 * block_bytes  # one block: there the product is whole
    assert temporary_bytes(block, method) < 6 * block_bytes


# --- Refused -------------------------------------------------------------------------

BAD = {
    "nan": (np.nan, "holds NaN"),
    "infinite": (np.inf, "holds an infinite entry"),
    "minus infinite": (-np.inf, "holds an infinite entry"),
    "negative": (-0.5, r"negative entries, the smallest is -0\.5"),
}


@pytest.mark.parametrize("layout", [np.asarray, jnp.asarray, sparse.csr_array])
@pytest.mark.parametrize("bad", BAD)
def test_bad_entries_are_refused(bad, layout):
    value, message = BAD[bad]
    given = V.copy()
    given[4, 5] = value
    with pytest.raises(ValueError, match=rf"^V of shape \(12, 8\).*{message}"):
        as_operand(layout(given), "float64")


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_matrices_are_refused(shape, layout):
    with pytest.raises(ValueError, match=r"^V is empty, shape"):
        as_operand(layout(np.zeros(shape)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (V[0], r"^V has 1 dimension\(s\), shape \(8,\)"),
        (V[None], r"^V has 3 dimension\(s\)"),
        (V.astype(complex), "^V has dtype complex128"),
        (sparse.csr_array(V.astype(complex)), "^V has dtype complex128"),
        (np.array([["a", "b"]]), "^V has dtype"),
        (V.astype(object), "^V has dtype object"),
    ],
)
def test_what_is_no_real_matrix_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        as_operand(given)
