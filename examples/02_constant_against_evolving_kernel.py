"""
Constant against evolving kernel
================================

The output scale α moves one and the same network between two regimes: with α large the
kernel stands still and training is linear, with α small the kernel moves and features
are learned. We train F = α(f − f₀) at three values of α, at the speed c = 1/α² that
keeps the linear part of the training the same.
"""

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib.pyplot as plt
import numpy as np

import ntkflow as nf

# %%
# Three problems that differ in α alone
# -------------------------------------

data = nf.data.digits(n_train=60, n_test=100, seed=0, targets="centered")
base = nf.models.MLP(in_size=64, out_size=10, width=64, depth=1, key=jax.random.key(1))
alphas = [0.3, 1.0, 10.0]
ts = nf.log_times(1e-2, 20.0, 30)
runs = {}
for alpha in alphas:
    model = nf.models.Scaled(nf.models.Antisymmetric(base), alpha, centered=True)
    problem = nf.Problem(
        model, data.x_train, data.y_train, x_test=data.x_test, y_test=data.y_test
    )
    runs[alpha] = nf.simulate(
        problem,
        ts,
        flows=[
            nf.flows.Gradient(),
            nf.flows.Residual("evolving"),
            nf.flows.Residual("frozen"),
        ],
        measures=[nf.measures.KernelDrift(), nf.measures.Alignment()],
        progress=False,
    )

# %%
# How far the kernel moved
# ------------------------
# The drift is measured against the kernel's own size, so that α² drops out of it.

colors = dict(zip(alphas, ["C0", "C1", "C2"], strict=True))
_, ax = plt.subplots(layout="constrained")
for alpha, run in runs.items():
    drift = run.dataset.kernel_drift
    ax.loglog(drift.time, drift, colors[alpha], label=f"α = {alpha:g}")
ax.set(xlabel="training time", ylabel="kernel drift", title="The kernel moves …")
ax.legend()
plt.show()

# %%
# How wrong the constant-kernel picture was
# -----------------------------------------
# The frozen residual equation is the same for all α; what differs is the network.

_, ax = plt.subplots(layout="constrained")
for alpha, run in runs.items():
    loss = run.dataset.loss_train
    name = f"α = {alpha:g}"
    ax.loglog(loss.time, loss.sel(flow="gradient"), colors[alpha], label=name)
    ax.loglog(loss.time, loss.sel(flow="residual_frozen"), colors[alpha], ls=":")
ax.set(
    xlabel="training time",
    ylabel="train loss",
    title="… and the loss leaves the constant-kernel prediction (dotted)",
)
ax.legend()
plt.show()

# %%
# One figure of everything
# ------------------------
# `compare` draws what the runs hold side by side, and `concat` makes one dataset of
# them, in which whatever differs is a coordinate.

together = nf.concat(list(runs.values()), "alpha", alphas)
nf.plots.compare(together)
plt.show()

print(together.kernel_drift.isel(time=-1).to_series())

# %%
# Two regimes
# -----------
# With antisymmetric initialization the drift falls as α⁻² once it is small.

drift = {alpha: float(run.dataset.kernel_drift[-1]) for alpha, run in runs.items()}
print({alpha: f"{value:.1e}" for alpha, value in drift.items()})
assert drift[0.3] > drift[1.0] > drift[10.0]

frozen = [run.dataset.f_train.sel(flow="residual_frozen") for run in runs.values()]
scale = float(np.abs(frozen[0]).max())
assert float(np.abs(frozen[0] - frozen[2]).max()) < 1e-3 * scale
for run in runs.values():
    f = run.dataset.f_train
    gap = np.abs(f.sel(flow="residual_evolving") - f.sel(flow="gradient")).max()
    assert gap < 1e-2 * scale
