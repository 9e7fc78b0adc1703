"""Graphs of neighbours: which columns of a factor are to be alike.

The penalty of a factor X (p, q) on a graph with the weights A (q, q) is

    λ tr(X L Xᵀ) = ½ λ Σ_ij A_ij ‖x_i − x_j‖²,  L = D − A,  D = diag(Σ_j A_ij),

where x_j is column j of X. Its gradient 2λ X L has the split plus = 2λ X D and
minus = 2λ X A, and 2λ L ⪯ 4λ D bounds its curvature entry by entry.

Reference: Cai, He, Han & Huang, "Graph regularized nonnegative matrix factorization for
data representation", IEEE Trans. Pattern Analysis and Machine Intelligence 33 (2011)
[Cai2011].
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.checks import as_matrix, check_count
from jaxnmf.data.csr import CSR, both_ways
from jaxnmf.data.known import is_sparse
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree

# By how much of the largest weight A and Aᵀ may differ, which rounding can.
ROUNDING = 1e-5
EXPECTED = "square, of the weights between neighbours"


def grid_graph(height: int, width: int) -> Any:
    """The graph of an image: pixels that share an edge are neighbours.

    Args:
      height, width: of the image, whose pixels are numbered row by row.

    Returns:
      (height·width, height·width), a `scipy.sparse.csr_array` of zeros and ones.

    Raises:
      ValueError: for a size that is no integer ≥ 1.

    Example:
      >>> import jaxnmf
      >>> jaxnmf.grid_graph(1, 3).toarray()
      array([[0., 1., 0.],
             [1., 0., 1.],
             [0., 1., 0.]])
    """
    from scipy.sparse import csr_array, diags_array, eye_array, kron

    check_count("height", height)
    check_count("width", width)

    def path(count: int) -> Any:
        ones = np.ones(count - 1)
        return diags_array([ones, ones], offsets=[1, -1], shape=(count, count))  # pyright: ignore

    rows, columns = eye_array(height), eye_array(width)
    return csr_array(kron(rows, path(width)) + kron(path(height), columns))


@dataclasses.dataclass(frozen=True, eq=False)
class Edges:
    """A checked graph on the host: the entries of a symmetric A without its diagonal.

    Attributes:
      size: q.
      rows, columns: where the entries are.
      weights: of the entries, > 0.
    """

    size: int
    rows: Int[np.ndarray, " e"]
    columns: Int[np.ndarray, " e"]
    weights: Float[np.ndarray, " e"]

    @classmethod
    def of(cls, name: str, A: Any) -> Edges:
        """The edges of a user's matrix, SciPy sparse or an array.

        Raises:
          ValueError: A is no square symmetric matrix of finite weights ≥ 0.
        """
        from scipy.sparse import coo_array, csr_array

        if not is_sparse(A):
            A = csr_array(as_matrix(name, A, EXPECTED))
        if A.ndim != 2 or A.shape[0] != A.shape[1]:
            raise ValueError(
                f"{name}: shape {A.shape} is not square; expected {EXPECTED}"
            )
        A = csr_array(A, dtype=np.float64)
        for fault, what in (
            (~np.isfinite(A.data), "is not finite"),
            (A.data < 0, "is negative"),
        ):
            if fault.any():
                found = coo_array(A)
                k = int(np.argmax(fault))
                i, j = (int(axis[k]) for axis in found.coords)
                raise ValueError(
                    f"{name}: the weight {A.data[k]:g} at ({i}, {j}) {what}; weights "
                    "must be finite numbers ≥ 0"
                )
        apart = coo_array(abs(A - A.T))
        if apart.nnz and apart.data.max() > ROUNDING * A.data.max():
            i, j = (int(axis[apart.data.argmax()]) for axis in apart.coords)
            raise ValueError(
                f"{name} is not symmetric: {A[i, j]:g} at ({i}, {j}) and {A[j, i]:g} "
                f"at ({j}, {i}); (A + A.T) / 2 is"
            )
        entries = coo_array((A + A.T) / 2)
        rows, columns = entries.coords
        kept = (rows != columns) & (entries.data > 0)
        rows, columns = (x[kept].astype(np.int32) for x in (rows, columns))
        return cls(A.shape[0], rows, columns, entries.data[kept])

    def graph(self, dtype: Any) -> Graph:
        """The graph for programs."""
        shape, dtype = (self.size, self.size), np.dtype(dtype)
        entries = self.rows, self.columns, self.weights
        adjacency, _ = both_ways(*entries, None, shape, dtype)
        degrees = np.bincount(self.rows, self.weights, self.size)
        return Graph(adjacency=adjacency, degrees=jnp.asarray(degrees, dtype))


def edges_of(graph: Any) -> tuple[Edges | None, Edges | None]:
    """The edges of a user's pair (of rows, of columns), or of None.

    Raises:
      ValueError: it is no pair, or a matrix in it does not fit.
    """
    if graph is None:
        return None, None
    if not isinstance(graph, list | tuple) or len(graph) != 2:
        raise ValueError(
            f"graph: {type(graph).__name__} is not a pair (of rows, of columns); give "
            "(A, None) or (None, A) for one of them"
        )
    rows, columns = (
        None if A is None else Edges.of(f"graph[{side}]", A)
        for side, A in enumerate(graph)
    )
    return rows, columns


def check_sizes(
    pair: tuple[Edges | None, Edges | None], shape: tuple[int, int]
) -> None:
    """Raise a ValueError unless the graphs have the sizes of a V of this shape."""
    named = zip(pair, shape, ("rows", "columns"), strict=True)
    for side, (edges, size, what) in enumerate(named):
        if edges is not None and edges.size != size:
            raise ValueError(
                f"graph[{side}] has shape ({edges.size}, {edges.size}); for the {size} "
                f"{what} of V it must be ({size}, {size})"
            )


@pytree
class Graph:
    """A graph over the columns of a factor.

    Attributes:
      adjacency: A (q, q), symmetric and ≥ 0, with zeros on its diagonal.
      degrees: its row sums, the diagonal of D.
    """

    adjacency: CSR
    degrees: Float[Array, " q"]

    def near(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """X A, for each column the weighted sum of its neighbours."""
        return self.adjacency.matmul(X.T, self.adjacency.data.astype(X.dtype)).T

    def roughness(self, X: Float[Array, "p q"]) -> jax.Array:
        """tr(X L Xᵀ), from the differences: ⟨X, X D − X A⟩ would lose its digits to
        cancellation where neighbours are alike."""
        A = self.adjacency
        apart = X[:, A.rows] - X[:, A.indices]
        return 0.5 * (A.data.astype(X.dtype) * apart**2).sum(1).sum()
