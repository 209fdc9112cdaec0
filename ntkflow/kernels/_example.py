"""One example's outputs as a function of the trained parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from ntkflow._types import Params
from ntkflow.kernels._count import count_flops, count_numbers
from ntkflow.kernels._lookups import evaluate, has_promises
from ntkflow.kernels._modes import Modes, find_modes
from ntkflow.models import Steps, find_steps, is_replayable, replayed


class Example(eqx.Module):
    """The function (parameters, one example) -> outputs [K].

    Attributes:
        static: What `partition` left over: everything that is not trained.
        apply: `apply(model, x)`, or None for `model(x)`.
        steps: How many steps every solve in depth is repeated for; None to leave
            solves as they are.
        agreeing: Whether its lookups are written anew, so that their derivatives in
            both modes agree where an index misses the table.
    """

    static: PyTree
    apply: Callable[..., Any] | None = None
    steps: Steps | None = eqx.field(static=True, default=None)
    agreeing: bool = eqx.field(static=True, default=False)

    def __call__(self, params: Params, x: Shaped[Array, "..."]) -> Any:
        """Outputs of one example.

        Args:
            params: The trained leaves.
            x: One example.

        Returns:
            The K outputs; whatever the model returns, until `trace` has checked it.
        """
        if not self.agreeing:
            return self.as_written(params, x)
        jaxpr, structure = _write_out(self.as_written, params, x)
        return jax.tree.unflatten(
            structure, evaluate(jaxpr, *jax.tree.leaves((params, x)))
        )

    def as_written(self, params: Params, x: Shaped[Array, "..."]) -> Any:
        """The same by the program as JAX writes it down.

        Args:
            params: The trained leaves.
            x: One example.

        Returns:
            The K outputs.
        """
        model = eqx.combine(params, self.static)
        if self.steps is not None:
            model = replayed(model, self.steps)
        return model(x) if self.apply is None else self.apply(model, x)

    def repeating(
        self,
        params: Params,
        x1: Shaped[Array, "N1 ..."],
        x2: Shaped[Array, "N2 ..."] | None,
    ) -> "Example":
        """The same function with the solves in depth repeated step by step.

        Args:
            params: The trained leaves.
            x1: Examples it will be called on.
            x2: Others, or None.

        Returns:
            The function; itself where no solve can be repeated, or the steps cannot be
            counted since values are not known yet, as under `jax.jit`.

        Raises:
            EquinoxRuntimeError: A solve fails.
        """
        model = eqx.combine(params, self.static)
        given = jax.tree.leaves((model, x1, x2))
        if not (is_replayable(model) and all(map(is_known, given))):
            return self
        try:
            counts = [
                find_steps(_evaluate, model, self.apply, x)
                for x in (x1, x2)
                if x is not None
            ]
        except eqx.EquinoxRuntimeError:
            raise
        except Exception:
            trace(self, params, x1)  # says what is wrong with the model
            raise
        most = (max(numbers) for numbers in zip(*counts, strict=True))
        return Example(self.static, self.apply, Steps(*most))


def is_known(leaf: Any) -> bool:
    """Whether a value is at hand: neither traced nor on other hosts.

    Args:
        leaf: Anything.

    Returns:
        Whether it is.
    """
    if not isinstance(leaf, jax.Array):
        return True
    try:
        return leaf.is_fully_addressable
    except jax.errors.ConcretizationTypeError:
        return False


def _evaluate(model: PyTree, apply: Callable[..., Any] | None, x: Array) -> Any:
    return jax.vmap(lambda xi: model(xi) if apply is None else apply(model, xi))(x)


class Traced(NamedTuple):
    """An example function written out by JAX, and what is read off it.

    Attributes:
        jaxpr: The program (leaves of the parameters, example) -> outputs.
        n_outputs: K.
        dtype: Dtype of the outputs.
        kernel_dtype: Dtype of the kernel: float64 if an output or a trained leaf is,
            else float32, so that half precisions accumulate in float32.
        activations: Numbers a reverse pass through one example keeps, at most.
        flops: Operations of the function on one example.
        modes: The derivatives it has with respect to the trained leaves.
    """

    jaxpr: jex.ClosedJaxpr
    n_outputs: int
    dtype: np.dtype
    kernel_dtype: np.dtype
    activations: int
    flops: int
    modes: Modes


def prepare(
    example: Example, params: Params, x: Shaped[Array, "N ..."]
) -> tuple[Example, Traced]:
    """The function, its lookups written anew where that is needed, and what it is.

    Args:
        example: The function.
        params: The trained leaves.
        x: Examples.

    Returns:
        The function that derivatives are taken of, and `trace` of it as it was written.
    """
    traced = trace(example, params, x)
    if has_promises(traced.jaxpr.jaxpr):
        example = Example(example.static, example.apply, example.steps, agreeing=True)
    return example, traced


def trace(example: Example, params: Params, x: Shaped[Array, "N ..."]) -> Traced:
    """Write the function out for one example, and check that it is one we can treat.

    Args:
        example: The function.
        params: The trained leaves.
        x: Examples, of which the first axis is removed.

    Returns:
        The traced function.

    Raises:
        ValueError: The function fails on one example, or its output is not a real
            array [K], or it has no derivative.
    """
    one = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    shapes = jax.eval_shape(lambda tree: tree, params)
    if example.apply is None and not callable(eqx.combine(params, example.static)):
        raise ValueError(
            "The model cannot be called. Expected a callable module. Pass "
            "apply=lambda model, x: ... to say what its outputs are."
        )
    try:
        # Not the method itself: JAX would hash what the model holds.
        jaxpr, output = jax.make_jaxpr(
            lambda p, xi: example.as_written(p, xi), return_shape=True
        )(shapes, one)
    except Exception as error:
        raise ValueError(
            f"The model fails on one example of shape {one.shape} and dtype "
            f"{one.dtype}: {type(error).__name__}: {error}\nA kernel needs the outputs "
            "of each example by itself. Give examples along the first axis of x; put "
            "layers that couple examples or need a key (batch statistics, dropout) in "
            "inference mode (equinox.nn.inference_mode), or BatchNorm in "
            "ntkflow.models.BatchStatistics; or pass apply=lambda model, x: ... to say "
            "how one example is evaluated."
        ) from error
    _check_output(output)
    leaves = [np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)]
    wide = any(jnp.finfo(dtype).bits > 32 for dtype in [*leaves, output.dtype])
    return Traced(
        jaxpr=jaxpr,
        n_outputs=output.shape[0],
        dtype=np.dtype(output.dtype),
        kernel_dtype=np.dtype("float64" if wide else "float32"),
        activations=count_numbers(jaxpr.jaxpr),
        flops=count_flops(jaxpr.jaxpr),
        modes=_find_modes(jaxpr.jaxpr, len(leaves)),
    )


def _write_out(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    jaxpr, output = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return jaxpr, jax.tree.structure(output)


def _find_modes(jaxpr: jex.Jaxpr, n_leaves: int) -> Modes:
    modes = find_modes(jaxpr, n_leaves)
    if modes.forward or modes.reverse:
        return modes
    raise ValueError(
        "The model can be differentiated neither forward (it has a custom reverse "
        "rule) nor in reverse (it has a loop of unknown length). If it solves "
        "differential equations, give all of them adjoints of one mode: "
        "diffrax.RecursiveCheckpointAdjoint() throughout, or ForwardMode()."
    )


def _check_output(output: object) -> None:
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise ValueError(
            "The outputs of one example must be one array [K], got a structure "
            f"{jax.tree.structure(output)}. Pass apply=lambda model, x: model(x)[0], "
            "or whichever part the kernel is of."
        )
    if jnp.issubdtype(output.dtype, jnp.complexfloating):
        raise ValueError(
            f"The outputs are complex ({output.dtype}); kernels of complex outputs are "
            "not defined here. Pass apply=lambda model, x: ... returning real and "
            "imaginary parts as separate outputs."
        )
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise ValueError(
            f"The outputs have dtype {output.dtype}, which has no derivative. Return "
            "the scores before rounding or taking an argmax."
        )
    if len(output.shape) != 1:
        raise ValueError(
            "The outputs of one example must have shape [K], got "
            f"{list(output.shape)}. Pass apply=lambda model, x: "
            "jax.numpy.reshape(model(x), -1)."
        )
    if output.shape[0] == 0:
        raise ValueError(
            "The model has no outputs (shape [0]) and so no kernel. Expected at least "
            "one output for each example."
        )
