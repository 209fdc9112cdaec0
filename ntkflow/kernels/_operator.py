"""The kernel as a linear operator that is applied without being formed."""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ntkflow._precision import full_precision
from ntkflow._sharding import without_explicit_axes
from ntkflow._types import Params
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._error_estimate import warn_if_loose
from ntkflow.kernels._example import Example, prepare
from ntkflow.kernels._functions import ApplyOne, check_function
from ntkflow.kernels._inputs import check_bound, check_examples, check_mesh
from ntkflow.kernels._memory import default_max_bytes
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._products import checked, kernel_times
from ntkflow.models import partition

TAGS = frozenset({lx.symmetric_tag, lx.positive_semidefinite_tag})


@final
class NTKOperator(lx.AbstractLinearOperator):
    """v ↦ J (Jᵀ v) on v [N, K]: one vjp, then one jvp; the kernel is never formed.

    J is that of reverse mode. Of a model that rounds inside, where a jvp is of another
    one, each product takes K vjps an example for each of the two factors instead.

    A lineax operator, tagged symmetric and positive semidefinite, so that for instance
    `lineax.linear_solve(operator, v, lineax.CG(...))` works. `lineax.linearise` keeps
    the forward pass between products where that fits; `lineax.diagonal` gives the
    kernel's diagonal. Examples that do not fit in memory together are taken in
    batches.

    Attributes:
        example: The outputs of one example.
        params: The trained leaves.
        x: The examples.
        structure: Shape and dtype of what it acts on.
        batch: Examples that a device takes at once.
        mesh: Devices the examples are divided among; None for one.
        modes: The derivatives of the model.

    Source: Novak, Sohl-Dickstein & Schoenholz (2022), section 3.2 (NTK-vector
    products).

    Verified by: tests/kernels/test_operator.py::test_operator_is_the_dense_kernel
    """

    example: Example
    params: Params
    x: Shaped[Array, "N ..."]
    structure: tuple[tuple[int, int], np.dtype] = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    mesh: jax.sharding.Mesh | None = eqx.field(static=True)
    modes: Modes = eqx.field(static=True)

    def __init__(
        self,
        model: PyTree,
        x: Shaped[Array | np.ndarray, "N ..."],
        *,
        apply: ApplyOne | None = None,
        trainable: PyTree | None = None,
        max_bytes: int | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ):
        """Checks the model on one example; nothing is computed.

        Args:
            model: An equinox module, called on one example.
            x: The examples.
            apply: `apply(model, x)` -> [K] for anything but `model(x)`; one function,
                since the kernel between two is no symmetric operator.
            trainable: Which leaves count, as for `ntk`.
            max_bytes: Bound on the memory for activations, in bytes; by default
                `default_max_bytes()`. It holds for each device.
            mesh: Devices to divide the examples among, also those of several processes.

        Raises:
            ValueError: As for `ntk`; or the model lacks one of the two derivatives.
        """
        check_mesh(mesh)
        check_function(apply)
        self.x = check_examples("x", x)
        warn_if_loose(model)
        self.params, static = partition(without_explicit_axes(model), trainable)
        self.example, traced = prepare(Example(static, apply), self.params, self.x)
        if not (traced.modes.forward and traced.modes.reverse):
            only = "forward" if traced.modes.forward else "in reverse"
            raise ValueError(
                "NTKOperator takes a derivative in reverse and one forward; the model "
                f"can be differentiated {only} only. If it solves a differential "
                "equation, give it adjoint=diffrax.DirectAdjoint(); or form the kernel "
                "with ntk."
            )
        self.modes = traced.modes
        self.structure = (self.x.shape[0], traced.n_outputs), traced.dtype
        # Values, and their tangents or cotangents.
        each = 2 * traced.activations * traced.dtype.itemsize
        most = max(1, check_bound(max_bytes) // max(1, each))
        devices = 1 if mesh is None else mesh.size
        self.batch = min(math.ceil(self.x.shape[0] / devices), most)
        self.mesh = mesh

    def __repr__(self) -> str:
        (n, k), dtype = self.structure
        model = type(self.example.static).__name__
        devices = "" if self.mesh is None else f", on {self.mesh.size} devices"
        return (
            f"<NTKOperator: {model}, {n} examples × {k} outputs, {dtype}; {self.batch} "
            f"examples at once{devices}>"
        )

    def mv(self, vector: Float[Array, "N K"]) -> Float[Array, "N K"]:
        """The kernel times a vector.

        Args:
            vector: One number for each example and output.

        Returns:
            J Jᵀ v.

        Raises:
            ValueError: The vector has another shape.
        """
        if vector.shape != self.structure[0]:
            raise ValueError(
                "The vector must have one number for each example and output, shape "
                f"{list(self.structure[0])}, got {list(vector.shape)}. Reshape it."
            )
        vector = without_explicit_axes(vector)
        return kernel_times(
            self.example,
            self.params,
            self.x,
            vector,
            batch=self.batch,
            mesh=self.mesh,
            modes=self.modes,
        )

    def as_matrix(self) -> Float[Array, "NK NK"]:
        """The kernel itself, by the fastest method `ntk` has.

        Returns:
            The matrix over flattened (example, output).
        """
        size = self.in_size()
        return self._kernel().reshape(size, size)

    def _kernel(self) -> Float[Array, "N K N K"]:
        (kernel,) = compute_kernels(
            self.example,
            self.params,
            self.x,
            None,
            outputs="full",
            method="auto",
            max_bytes=default_max_bytes(),
            by_leaf=False,
        )
        return kernel.astype(self.structure[1])

    def transpose(self) -> "NTKOperator":
        """The transpose, which is the operator itself.

        Returns:
            The operator.
        """
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """What it acts on.

        Returns:
            Shape [N, K] and the dtype of the outputs.
        """
        return jax.ShapeDtypeStruct(*self.structure)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """What it returns.

        Returns:
            The same as `in_structure`.
        """
        return self.in_structure()


# lineax keeps its functions of an operator outside of the class, by single dispatch.


@lx.linearise.register(NTKOperator)
def _(operator: NTKOperator) -> lx.AbstractLinearOperator:
    modes = operator.modes
    if operator.batch < operator.x.shape[0] or modes.rounds:  # or several devices
        return lx.FunctionLinearOperator(operator.mv, operator.in_structure(), TAGS)
    with full_precision():
        example, params, x = operator.example, operator.params, operator.x
        _, push = jax.linearize(
            lambda p: jax.vmap(lambda xi: example(p, xi))(x), params
        )
        pull = jax.linear_transpose(push, params)

        def product(vector: Float[Array, "N K"]) -> Float[Array, "N K"]:
            (direction,) = pull(vector)
            return checked(example, params, x, direction, modes, push(direction))

        return lx.FunctionLinearOperator(product, operator.in_structure(), TAGS)


@lx.materialise.register(NTKOperator)
def _(operator: NTKOperator) -> lx.AbstractLinearOperator:
    kernel = operator._kernel()
    return lx.PyTreeLinearOperator(kernel, operator.out_structure(), TAGS)


@lx.diagonal.register(NTKOperator)
def _(operator: NTKOperator) -> Float[Array, " NK"]:
    def own(xi: Shaped[Array, "..."]) -> Float[Array, " K"]:
        (kernel,) = compute_kernels(
            operator.example,
            operator.params,
            xi[None],
            None,
            outputs="diagonal",
            method="auto",
            max_bytes=default_max_bytes(),
            by_leaf=False,
        )
        return kernel[0, 0]

    return jnp.ravel(jax.lax.map(own, operator.x, batch_size=64))


@lx.tridiagonal.register(NTKOperator)
def _(operator: NTKOperator) -> tuple[Array, Array, Array]:
    return lx.tridiagonal(lx.MatrixLinearOperator(operator.as_matrix()))


@lx.conj.register(NTKOperator)
def _(operator: NTKOperator) -> NTKOperator:
    return operator


def _register(check: Any, answer: bool) -> None:
    check.register(NTKOperator)(lambda operator: answer)


for _check in (lx.is_symmetric, lx.is_positive_semidefinite):
    _register(_check, answer=True)
for _check in (
    lx.is_diagonal,
    lx.is_tridiagonal,
    lx.has_unit_diagonal,
    lx.is_lower_triangular,
    lx.is_upper_triangular,
    lx.is_negative_semidefinite,
):
    _register(_check, answer=False)
