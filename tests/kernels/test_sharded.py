"""Many devices give the kernel of one, in one process and in two."""

import os
import socket
import subprocess
import sys

# Seconds after which a computation hangs for certain: compilation alone takes minutes
# on a machine that does other things as well.
LIMIT = 1200

EIGHT = """
import itertools
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import lineax as lx
import ntkflow as nf

key = jax.random.key(0)
model = nf.models.Scaled(nf.models.MLP(5, 3, 16, 2, key=key), 2.0)
x1, x2 = jax.random.normal(key, (21, 5)), jax.random.normal(key, (4, 5))
meshes = [
    jax.make_mesh((8,), ("rows",)),
    jax.make_mesh((2, 4), ("host", "chip")),
    jax.sharding.Mesh(np.array(jax.devices()[:3]), ("rows",)),
    jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",)),
]
# Every layout on the first mesh, and every mesh.
cases = [*itertools.product(meshes[:1], ("full", "diagonal", "trace"), (None, x2))]
cases += itertools.product(meshes[1:], ("full",), (None, x2))
for mesh, outputs, other in cases:
    expected = np.asarray(nf.ntk(model, x1, other, outputs=outputs))
    found = np.asarray(nf.ntk(model, x1, other, outputs=outputs, mesh=mesh))
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error <= 50 * np.finfo(np.float64).eps, (mesh, outputs, error)
    if other is None:
        axes = {"full": (2, 3, 0, 1), "diagonal": (1, 0, 2), "trace": (1, 0)}
        np.testing.assert_array_equal(found, found.transpose(axes[outputs]))
pair = (lambda m, x: m(x), lambda m, x: m(x)[:2])  # two functions
expected = np.asarray(nf.ntk(model, x1, apply=pair, outputs="full"))
found = np.asarray(nf.ntk(model, x1, apply=pair, outputs="full", mesh=meshes[0]))
np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
whole = nf.ntk(model, x1[:16], outputs="full", mesh=meshes[0])
assert len(whole.sharding.device_set) == 8
assert whole.addressable_shards[0].data.shape[0] == 2
parts = nf.ntk(model, x1, by_leaf=True, mesh=meshes[0])
total = sum(np.asarray(part) for part in parts.values())
np.testing.assert_allclose(total, nf.ntk(model, x1), rtol=1e-13)

v = jax.random.normal(key, (21, 3))
for mesh, bound in [(meshes[0], None), *((mesh, 3000) for mesh in meshes)]:
    operator = nf.NTKOperator(model, x1, mesh=mesh, max_bytes=bound)
    assert (operator.batch < 21 / mesh.size) == (bound is not None)
    expected = nf.NTKOperator(model, x1).mv(v)
    for found in (operator.mv(v), lx.linearise(operator).mv(v)):
        error = np.linalg.norm(np.asarray(found) - expected)
        assert error <= 50 * np.finfo(np.float64).eps * np.linalg.norm(expected)

# Explicit axes, the default of `make_mesh`: the arrays' types say where they are.
spread = jax.sharding.NamedSharding(meshes[0], jax.sharding.PartitionSpec("rows"))
assert jax.sharding.AxisType.Explicit in meshes[0].axis_types
data, vector = jax.device_put((x1[:16], v[:16]), spread)
expected = nf.ntk(model, x1[:16])
for mesh in (None, meshes[0]):
    found = nf.ntk(model, data, mesh=mesh)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
column = nf.NTKOperator(model, x1[:16]).mv(v[:16])
np.testing.assert_allclose(
    nf.NTKOperator(model, data).mv(vector), column, rtol=1e-10, atol=1e-10
)
np.testing.assert_allclose(nf.Problem(model, data, vector).x, x1[:16], rtol=0)
try:
    jax.jit(lambda x: nf.ntk(model, x))(data)
except ValueError as error:
    assert "AxisType.Auto" in str(error), error
else:
    raise AssertionError("explicit axes inside of jit")
solution = nf.kernels.solve(operator, v, ridge=1.0, rank=8, rtol=1e-10, key=key)
residual = operator.mv(solution.value) + solution.value - v
assert np.linalg.norm(residual) <= 2e-10 * np.linalg.norm(v)
"""

TWO = """
import sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import ntkflow as nf

assert jax.process_count() == 2 and jax.device_count() == 4
key = jax.random.key(0)
model = nf.models.MLP(5, 3, 16, 2, key=key)
x = np.asarray(jax.random.normal(key, (12, 5)))
kernel = nf.ntk(model, x, outputs="full", mesh=jax.make_mesh((4,), ("rows",)))
with jax.default_device(jax.local_devices()[0]):
    expected = np.asarray(nf.ntk(model, x, outputs="full"))
for shard in kernel.addressable_shards:
    error = np.linalg.norm(shard.data - expected[shard.index])
    assert error <= 50 * np.finfo(np.float64).eps * np.linalg.norm(expected)

v = np.asarray(jax.random.normal(key, (12, 3)))
product = nf.NTKOperator(model, x, mesh=jax.make_mesh((4,), ("rows",))).mv(v)
expected = np.einsum("akbl,bl->ak", expected, v)
for shard in product.addressable_shards:
    error = np.linalg.norm(shard.data - expected[shard.index])
    assert error <= 50 * np.finfo(np.float64).eps * np.linalg.norm(expected)
"""


def environment(devices):
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def test_eight_devices_give_the_kernel_of_one():
    done = subprocess.run(
        [sys.executable, "-c", EIGHT],
        env=environment(8),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_share_a_kernel():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, str(i)],
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=LIMIT)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
