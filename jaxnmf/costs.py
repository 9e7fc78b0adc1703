"""What an iteration costs, from formulas: memory, operations, bytes moved and sent.

V is m×n, W m×p, H p×n, a number has ``size`` bytes, and the loss is Frobenius. On a
mesh of a×b devices each has a block of V of m/a × n/b and works on it as on a V of that
size: its part of W goes with the rows and that of H with the columns. The coefficients
that are counts of passes over a factor are those of the programs that XLA compiles for
a CPU; the tests compare them with its own analysis. Those of tiles, the form of an
accelerator, are counted by hand.
"""

from __future__ import annotations

import math

from jaxnmf._util.platform import compiled_for
from jaxnmf.kernels.repeats import suggested_repeats

# An entry of a sparse V on a device: of V and of Vᵀ its value and three int32, the
# column, the row and the place in the other order. Of a TPU also the places and columns
# of padded rows, of which at most half are filled in.
SPARSE_INTS, PADDED_INTS = 3, 4
# Bytes of factors: the argument, the result and temporaries, each in units of W and H.
COPIES = {"hals": 3.0, "mu": 3.5, "extrapolated": 8.0}
# Operations an entry of a factor, beside products: of a sweep, and of the objective's
# change where extrapolation is tried.
SWEEP, UPDATE, EXTRAPOLATION = 13.5, 12, 27
TILE = 32  # rows of a factor in a tile of a sweep on an accelerator
INT32 = 2**31 - 1


def entries(m: float, n: float, density: float) -> float:
    """The numbers that V stores: m n × density; density 1 is a dense V."""
    return m * n * density


def sweeps(
    m: float, n: float, p: int, density: float, platform: str
) -> tuple[int, int]:
    """The sweeps over W and over H for each product, which `inner_repeats` chooses: on
    a CPU min(8, 1 + ⌊0.3 e/p⌋), e the entries of a row of V (for W) or column (H)."""

    def over(columns: float) -> int:
        each = entries(m, n, density) / columns
        return int(suggested_repeats(p, columns, each, by_entries=density < 1))

    with compiled_for(platform):
        return over(m), over(n)


def memory(
    m: float, n: float, p: int, density: float, size: int, solver: str, padded: bool
) -> dict[str, float]:
    """Bytes on a device: of V m n size if dense, else 2 nnz (size + 4·3) and the starts
    of rows 4 (m + n), where rows are padded up to 2 nnz·4·4 more; of the factors with
    their temporaries c p (m + n) size, c by solver."""
    if density == 1:
        V = m * n * size
    else:
        nnz = entries(m, n, density)
        integers = SPARSE_INTS + PADDED_INTS * padded
        V = 2 * nnz * (size + 4 * integers) + 4 * (m + n)
    return {"V": V, "factors": COPIES[solver] * p * (m + n) * size}


def product_flops(m: float, n: float, p: int, density: float) -> float:
    """Operations of the products of both half-steps with V: 4 nnz p."""
    return 4 * entries(m, n, density) * p


def factor_flops(
    m: float, n: float, p: int, solver: str, repeats: tuple[int, int]
) -> float:
    """Operations on the factors alone: the Gram matrices 2 (m + n) p²; a sweep of hals
    (m + n) p (2p + 13.5), as often as it is repeated; the update of mu
    (m + n) p (2p + 12); of extrapolated also the changes 2 (2m + n) p² + 27 (m + n) p.
    """
    if solver == "mu":
        updates = (m + n) * p * (2 * p + UPDATE)
    else:
        of_W, of_H = repeats
        updates = (of_W * m + of_H * n) * p * (2 * p + SWEEP)
    if solver == "extrapolated":
        updates += 2 * (2 * m + n) * p**2 + EXTRAPOLATION * (m + n) * p
    return 2 * (m + n) * p**2 + updates


def product_bytes(
    m: float, n: float, p: int, density: float, size: int
) -> tuple[float, float]:
    """Bytes that the products read: V twice, 2 m n size if dense, else
    2 nnz (size + 4) + 4 (m + n); and of a sparse V the rows of factors that are
    gathered for its entries, 2 nnz p size, from a cache as far as they fit there."""
    if density == 1:
        return 2 * m * n * size, 0.0
    nnz = entries(m, n, density)
    return 2 * nnz * (size + 4) + 4 * (m + n), 2 * nnz * p * size


def factor_bytes(
    m: float,
    n: float,
    p: int,
    density: float,
    size: int,
    solver: str,
    repeats: tuple[int, int],
    tiled: bool,
) -> float:
    """Bytes of factors that an iteration moves, in units of (m + n) p size: 1, and of a
    sweep row by row 3p + 9, or with the cross products of a sparse V, which lie the
    other way round, 5p + 7; of a sweep in tiles ⌈p/32⌉ + 4; 9 of mu; 25 more of
    extrapolated."""
    if solver == "mu":
        return 9 * (m + n) * p * size
    of_W, of_H = repeats
    each = 3 * p + 9 if density == 1 else 5 * p + 7
    if tiled:
        each = math.ceil(p / TILE) + 4
    more = 25 if solver == "extrapolated" else 0
    return ((1 + more) * (m + n) + each * (of_W * m + of_H * n)) * p * size


def sent_bytes(m: float, n: float, p: int, size: int, grid: tuple[int, int]) -> float:
    """Bytes that each of a×b devices sends: a half-step of H sums the cross product,
    p n/b, and a Gram matrix, p², over the a devices of a column of the mesh, one of W
    p m/a and p² over the b of a row; the sum of x numbers over k devices sends
    2 x (k − 1)/k. ``extrapolated`` sends a few numbers besides."""
    a, b = grid
    of_H, of_W = p * (n / b + p), p * (m / a + p)
    return 2 * size * (of_H * (a - 1) / a + of_W * (b - 1) / b)


def grids(devices: int) -> list[tuple[int, int]]:
    """Every a×b of so many devices."""
    return [(a, devices // a) for a in range(1, devices + 1) if devices % a == 0]


def best_grid(m: float, n: float, p: int, devices: int) -> tuple[int, int]:
    """The a×b of so many devices on which an iteration sends least."""
    every = grids(devices)
    fit = [(a, b) for a, b in every if a <= m and b <= n] or every
    return min(fit, key=lambda grid: sent_bytes(m, n, p, 1, grid))
