"""What every function of this room asks of its arguments."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Shaped

from ntkflow._sharding import without_explicit_axes
from ntkflow.kernels._memory import default_max_bytes


def check_bound(max_bytes: int | None) -> int:
    """The bound on working memory.

    Args:
        max_bytes: The bound, or None for the default one.

    Returns:
        The bound in bytes.

    Raises:
        ValueError: It is no positive number.
    """
    bound = default_max_bytes() if max_bytes is None else max_bytes
    if not isinstance(bound, int | np.integer) or bound <= 0:
        raise ValueError(
            "max_bytes must be a positive whole number of bytes, such as 2**30 for one "
            f"GiB, got {bound!r}."
        )
    return int(bound)


def check_mesh(mesh: Mesh | None) -> None:
    """Refuse what is no mesh of devices.

    Args:
        mesh: What was given as `mesh=`.

    Raises:
        ValueError: It is neither a mesh nor None.
    """
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(
            "mesh must be a jax.sharding.Mesh, such as jax.make_mesh((8,), ('rows',)), "
            f"got {mesh!r}."
        )


def check_pair(
    x1: Shaped[Array | np.ndarray, "..."],
    x2: Shaped[Array | np.ndarray, "..."] | None,
    *,
    alike: bool = True,
) -> tuple[Shaped[Array, "N1 ..."], Shaped[Array, "N2 ..."] | None]:
    """Two sets of the same kind of examples.

    Args:
        x1: Examples along the rows.
        x2: Examples along the columns, or None.
        alike: Whether one function takes both, so that they must be of one kind.

    Returns:
        Both as JAX arrays.

    Raises:
        ValueError: They do not go together, or one is empty.
    """
    first = check_examples("x1", x1)
    second = None if x2 is None else check_examples("x2", x2)
    if (
        alike
        and second is not None
        and (first.shape[1:] != second.shape[1:] or first.dtype != second.dtype)
    ):
        raise ValueError(
            "x1 and x2 must hold the same kind of examples, got "
            f"{first.shape[1:]} {first.dtype} and {second.shape[1:]} {second.dtype}. "
            "Both have the examples along the first axis."
        )
    return first, second


def check_examples(
    name: str, x: Shaped[Array | np.ndarray, "..."]
) -> Shaped[Array, "N ..."]:
    """Examples as a JAX array, at least one of them.

    Args:
        name: What to call them in the error.
        x: The examples.

    Returns:
        The examples.

    Raises:
        ValueError: There is no first axis or nothing along it.
    """
    if not isinstance(x, Array | np.ndarray):
        raise ValueError(
            f"{name} must be an array with the examples along its first axis, got a "
            f"{type(x).__name__}. The model comes before the examples; a list goes "
            "through numpy.asarray."
        )
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(
            f"{name} must hold at least one example along its first axis, got shape "
            f"{x.shape}. A single example is x[None]."
        )
    return without_explicit_axes(jnp.asarray(x))
