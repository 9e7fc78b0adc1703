"""A user's numbers, in whatever form, as an array of real numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.containers import contents, is_frame

NUMBERS = "fiub"  # the kinds of dtypes that are real numbers
HOST = (1, 3)  # DLPack's numbers of memory that a CPU reads, plain and pinned


def as_array(name: str, X: Any, fit: str = "a matrix of shape (m, n)") -> Any:
    """X as an array of real numbers: a NumPy array, masked where X is, or a JAX array,
    which stays on its devices.

    Missing values of a frame become NaN; bfloat16 and other floats that NumPy does not
    have become float32.

    Args:
      name: of X, in messages.
      X: an array, a data frame, or anything `numpy.asarray` takes or that has
        ``__dlpack__``.
      fit: what X must be, in messages.

    Raises:
      ValueError: for what makes no array, and for what is no number, by its column in a
        frame or its position.
    """
    X = contents(X)
    if is_frame(X):
        X = _of_frame(name, X)
    elif not isinstance(X, jax.Array | np.ma.MaskedArray):
        try:
            X = _of_object(X)
        except (TypeError, ValueError, RuntimeError, BufferError) as error:
            why = "rows of different lengths?"
            if hasattr(X, "__dlpack__"):
                why = " ".join(str(error).split())
            raise ValueError(
                f"{name} is a {type(X).__name__} that makes no array ({why}); it must "
                f"be {fit}"
            ) from None
    X = widened(X)
    if X.dtype.kind not in NUMBERS:
        raise ValueError(
            f"{name} has dtype {X.dtype}{_first_other(X)}; it must contain real "
            "numbers (float, integer or bool)"
        )
    return X


def as_leaf(x: Any, dtype: Any) -> jax.Array:
    """A number or array as a JAX array of this type."""
    # What is no JAX array yet on the host: jax.numpy would compile a conversion.
    return jnp.asarray(x if isinstance(x, jax.Array) else np.asarray(x, dtype), dtype)


def widened(X: Any) -> Any:
    """An array of numbers of a type that NumPy does not have, such as bfloat16, in
    float32; anything else as it is."""
    if getattr(getattr(X, "dtype", None), "kind", "") != "V":
        return X
    return X.astype(np.float32) if jnp.issubdtype(X.dtype, np.number) else X


def check_columns(name: str, frame: Any) -> Any:
    """The frame, columns of objects as what they hold.

    Raises:
      ValueError: a column does not hold numbers.
    """
    frame = frame.infer_objects()
    for place, dtype in enumerate(frame.dtypes):
        if dtype.kind not in NUMBERS:
            column = frame.iloc[:, place]
            example = f", such as {column.iloc[0]!r}" if len(column) else ""
            raise ValueError(
                f"{name}: column {frame.columns[place]!r} has dtype {dtype}{example}; "
                "every column must contain numbers (leave it out, or make it the index)"
            )
    return frame


def _of_object(X: Any) -> Any:
    """What another package shares by DLPack, on the device where it is, or what NumPy
    makes an array of."""
    if isinstance(X, np.ndarray | np.generic) or not hasattr(X, "__dlpack__"):
        return np.asarray(X)
    if X.__dlpack_device__()[0] in HOST:
        try:
            return np.from_dlpack(X)
        except BufferError:  # of a type that NumPy does not have, such as bfloat16
            pass
    return jnp.from_dlpack(X)


def _of_frame(name: str, frame: Any) -> np.ndarray:
    array = np.asarray(frame)
    if array.dtype.kind in NUMBERS:
        return array
    return check_columns(name, frame).to_numpy(dtype=np.float64, na_value=np.nan)


def _first_other(X: Any) -> str:
    """Of an array of objects, the first that is no number, for a message."""
    if X.dtype.kind != "O":
        return ""
    for place, value in np.ndenumerate(X):
        if not isinstance(value, int | float | np.number):
            return f": entry {tuple(map(int, place))} is {value!r}"
    return ""
