"""
Infinitely wide networks on MNIST
=================================

Five architectures of infinite width learn handwritten digits by regression with their
tangent kernels, from a hundred examples to thousands. Then finite networks of one of
them are trained by gradient flow, beside what the limit says they do.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import ntkflow as nf
from ntkflow import infinite as inf

# %%
# Five architectures
# ------------------
# One of them has infinitely many layers as well: its kernel follows a differential
# equation in depth.


def perceptron(activation, depth):
    """A multilayer perceptron."""
    hidden = [inf.Dense(1.5, 0.1), activation] * depth
    return inf.Sequential([*hidden, inf.Dense(1.0, 0.1)])


branch = inf.Sequential([inf.Relu(), inf.Dense(1.0, 0.1)])
convolutions = [inf.Conv(3, strides=2, w_std=1.5), inf.Relu()] * 2
networks = {
    "ReLU, one hidden layer": perceptron(inf.Relu(), 1),
    "ReLU, three": perceptron(inf.Relu(), 3),
    "erf, three": perceptron(inf.Erf(), 3),
    "ReLU, depth as time": inf.Sequential([
        inf.Dense(1.5, 0.1),
        inf.UntiedDepth(branch, rtol=1e-4),
        inf.Dense(1.0, 0.1),
    ]),
    "ReLU, two convolutions": inf.Sequential([
        *convolutions,
        inf.Flatten(),
        inf.Dense(1.0, 0.1),
    ]),
}

# %%
# Digits they read
# ----------------
# Predictions near the end of training, where a small ridge stops it, averaged over
# networks. The library has five thousand of MNIST's digits, of which five hundred are
# for testing. A pair of images costs the convolutions 150 times what it costs the
# perceptrons.


def read(name, n_train):
    """The part of the test digits that a network reads after training."""
    data = nf.data.mnist(n_train=n_train, n_test=500, seed=0, targets="centered")
    x, x_test = data.x_train, data.x_test
    if "convolutions" in name:
        x, x_test = (images.reshape(-1, 1, 28, 28) for images in (x, x_test))
    network = networks[name]
    kernels = network(x).ntk, network(x_test, x).ntk
    outputs = nf.theory.kernel_ridge(
        kernels[0], data.y_train, 1e-3, ntk_test_train=kernels[1]
    ).test
    return float(np.mean(outputs.argmax(1) == data.y_test.argmax(1)))


plt.figure()
for name in networks:
    sizes = (100, 700) if "convolutions" in name else (100, 700, 4500)
    found = [read(name, size) for size in sizes]
    print(f"{name}: {found[-1]:.1%} with {sizes[-1]:,} examples")
    plt.semilogx(sizes, found, "o-", label=name)
plt.xlabel("training examples")
plt.ylabel("test digits read")
plt.legend()
plt.show()

# %%
# Finite networks beside
# ----------------------
# Networks of three widths with the same initial distribution, trained on thirty digits.

limit, ts = networks["ReLU, one hidden layer"], nf.log_times(0.1, 100.0, 20)
data = nf.data.mnist(n_train=30, n_test=200, seed=0, targets="centered")
start, start_test = 0 * data.y_train, 0 * data.y_test
theta, cross = limit(data.x_train).ntk, limit(data.x_test, data.x_train).ntk
mean = nf.theory.frozen_flow(
    theta, start, data.y_train, ts, ntk_test_train=cross, f0_test=start_test
).test
plt.figure()
for width in (16, 64, 256):
    made = inf.to_module(limit, (784,), width=width, out_size=10, key=jax.random.key(0))
    model = nf.models.Antisymmetric(made)  # starts from f = 0, with the same kernel
    problem = nf.Problem(
        model, data.x_train, data.y_train, x_test=data.x_test, y_test=data.y_test
    )
    run = nf.simulate(
        problem,
        ts,
        flows=[nf.flows.Gradient()],
        measures=(),
        rtol=1e-2,
        global_error=False,  # far below the gap that is measured
        progress=False,
    )
    gap = run.dataset.f_test.isel(flow=0).to_numpy() - mean
    size = np.linalg.norm(gap, axis=(1, 2)) / np.linalg.norm(mean, axis=(1, 2))
    print(f"width {width}: {size[-1]:.2f} from the limit at the end")
    plt.semilogx(ts, size, label=f"width {width}")
plt.xlabel("training time")
plt.ylabel("distance of the test outputs from the limit's")
plt.legend()
plt.show()
