"""
The kernel of a Neural ODE, before and after training
=====================================================

A Neural ODE learns to tell two spirals apart, beside a multilayer perceptron and a
residual network of as many parameters. Training is a differential equation, and for the
first of the three so is depth. We look at its kernel: how it builds up over depth, what
training does to its spectrum, and how far it moves compared with the others.
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
x = (side * angle / 2 * np.stack([np.cos(angle), np.sin(angle)])).T
y = side[:, None]

# %%
# Three networks
# --------------
# The state of the Neural ODE has four numbers, so that the spirals may pass each other.

keys = jax.random.split(jax.random.key(0), 5)
node = nf.models.NeuralODE(
    nf.models.MLPField(4, width=16, depth=2, key=keys[0], w_std=1.5),
    encoder=nf.models.Dense(2, 4, key=keys[1]),
    readout=nf.models.Dense(4, 1, key=keys[2]),
    depth=nf.models.Depth(1.0, solver=diffrax.Bosh3(), rtol=1e-5, atol=1e-5),
)
networks = {
    "Neural ODE": node,
    "MLP": nf.models.MLP(2, 1, 18, 2, "tanh", w_std=1.5, key=keys[3]),
    "ResNet": nf.models.ResidualMLP(2, 1, 11, 3, "tanh", w_std=1.5, key=keys[4]),
}

# %%
# Over depth
# ----------
# The network may be read out before its depth has ended. What its kernel is by then,
# relative to the end:

ts = np.linspace(0.1, 1.0, 10)
profile = nf.flows.depth_profile(node, x, ts)
size = np.linalg.norm(profile.ntk, axis=(1, 2))
plt.figure()
plt.plot(profile.ts, size / size[-1], "o-")
plt.xlabel("depth")
plt.ylabel("size of the tangent kernel, over that at the end")
plt.show()

# %%
# Over training
# -------------
# The equation in depth is solved anew for every gradient.

runs = {}
for name, model in networks.items():
    problem = nf.Problem(model, x, y)
    runs[name] = nf.simulate(
        problem,
        nf.log_times(1e-2, 30.0, 12),
        flows=[nf.flows.Gradient()],
        measures=[nf.measures.KernelDrift(), nf.measures.Spectrum(k=12)],
        rtol=1e-3,
        progress=False,
    )
    last = runs[name].dataset.isel(time=-1, flow=0)
    print(
        f"{name}: {problem.n_params} parameters, loss {float(last.loss_train):.2g}, "
        f"kernel drift {float(last.kernel_drift):.2f}"
    )

# %%
# What came out
# -------------

_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
for name, run in runs.items():
    left.loglog(run.dataset["time"], run.dataset["kernel_drift"], label=name)
left.set(xlabel="training time", ylabel="kernel drift |K − K₀|/|K₀|")
left.legend()
spectrum = runs["Neural ODE"].dataset["spectrum"]
right.semilogy(np.arange(12) + 1, spectrum.isel(time=0), "o-", label="at the start")
right.semilogy(np.arange(12) + 1, spectrum.isel(time=-1), "s-", label="trained")
right.set(xlabel="mode", ylabel="eigenvalue of the Neural ODE's kernel")
right.legend()
plt.tight_layout()
plt.show()
