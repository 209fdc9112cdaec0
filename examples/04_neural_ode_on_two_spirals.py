"""
The kernel of a Neural ODE, before and after training
=====================================================

A Neural ODE learns to tell two spirals apart, and then to read digits, beside a
multilayer perceptron and a residual network of as many parameters. Training is a
differential equation, and for the first of the three so is depth. We look at its
kernel: how it builds up over depth, what training does to its spectrum, and how far it
moves compared with the others.
"""

import jax

jax.config.update("jax_enable_x64", True)

import diffrax
import matplotlib.pyplot as plt
import numpy as np

import ntkflow as nf

# %%
# Two spirals
# -----------

n = 40
angle = np.repeat(np.linspace(0.5, 3.5, n // 2), 2)
side = np.tile([1.0, -1.0], n // 2)
x, y = (side * angle / 2 * [np.cos(angle), np.sin(angle)]).T, side[:, None]

# %%
# Three networks
# --------------
# The state of the Neural ODE has more numbers than the plane, so that the spirals may
# pass each other. The fewer steps in depth it may take, the sooner it is compiled.

keys = jax.random.split(jax.random.key(0), 5)


def networks(inputs, outputs, state, width, others):
    """A Neural ODE, and two networks of given widths with as many parameters."""
    node = nf.models.NeuralODE(
        nf.models.MLPField(state, width=width, depth=2, key=keys[0], w_std=1.5),
        encoder=nf.models.Dense(inputs, state, key=keys[1]),
        readout=nf.models.Dense(state, outputs, key=keys[2]),
        depth=nf.models.Depth(1.0, rtol=1e-5, atol=1e-5, max_steps=16),
    )
    mlp = nf.models.MLP(inputs, outputs, others[0], 2, w_std=1.5, key=keys[3])
    res = nf.models.ResidualMLP(inputs, outputs, others[1], 3, w_std=1.5, key=keys[4])
    return {"Neural ODE": node, "MLP": mlp, "ResNet": res}


spirals = networks(2, 1, 4, 16, (18, 11))

# %%
# Over depth
# ----------
# The network may be read out before its depth has ended.

profile = nf.flows.depth_profile(spirals["Neural ODE"], x, np.linspace(0.1, 1.0, 10))
size = np.linalg.norm(profile.ntk, axis=(1, 2))
plt.figure()
plt.plot(profile.ts, size / size[-1], "o-")
plt.xlabel("depth")
plt.ylabel("size of the tangent kernel, over that at the end")
plt.show()

# %%
# Over training
# -------------


def train(models, x, y, end):
    """Trains every network; the equation in depth is solved for every gradient."""
    runs, ts = {}, nf.log_times(end / 3000, end, 12)
    for name, model in models.items():
        problem = nf.Problem(model, x, y)
        runs[name] = nf.simulate(
            problem,
            ts,
            flows=[nf.flows.Gradient()],
            measures=[nf.measures.KernelDrift(), nf.measures.Spectrum(k=12)],
            solver=diffrax.Dopri5(),
            rtol=1e-3,
            global_error=False,  # no error bars, for half the time
            progress=False,
        )
        last = runs[name].dataset.isel(time=-1, flow=0)
        print(
            f"{name}: {problem.n_params} parameters, loss {float(last.loss_train):.2g},"
            f" kernel drift {float(last.kernel_drift):.2f}"
        )
    return runs


def draw(runs):
    """The drift of all kernels, and the spectrum of the Neural ODE's."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, run in runs.items():
        run.dataset["kernel_drift"].plot(
            ax=left, label=name, xscale="log", yscale="log"
        )
    left.set(xlabel="training time", ylabel="kernel drift |K − K₀|/|K₀|", title="")
    left.legend()
    spectrum = runs["Neural ODE"].dataset["spectrum"]
    for i, name in (0, "at the start"), (-1, "trained"):
        right.semilogy(spectrum["mode"] + 1, spectrum.isel(time=i), "o-", label=name)
    right.set(xlabel="mode", ylabel="eigenvalue of the Neural ODE's kernel")
    right.legend()
    plt.show()


draw(train(spirals, x, y, end=6.0))
# %%
# Real digits
# -----------
# Thirty images of 64 pixels, ten classes, in a state of eight numbers.

data = nf.data.digits(n_train=30, n_test=1, seed=0)
draw(train(networks(64, 10, 8, 24, (17, 14)), data.x_train, data.y_train, end=3.0))
