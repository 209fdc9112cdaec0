"""The kernels by torch.func as its tutorial computes them, in its own environment.

python torch_func.py mlp-64-trace | cnn-16-full
"""

import sys

import torch
from measure import measure, report
from torch import nn
from torch.func import functional_call, jacrev, vmap


def _mlp():
    hidden = [nn.Linear(784, 512), nn.ReLU()]
    hidden += [part for _ in range(2) for part in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, 10))


def _cnn():
    layers = [
        part
        for channels in (3, 64, 64)
        for part in (nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU())
    ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


CASES = {
    "mlp-64-trace": (_mlp, (64, 784), "nap,map->nm"),
    "cnn-16-full": (_cnn, (16, 3, 16, 16), "nap,mbp->namb"),
}


def main(name: str) -> None:
    """Times one case."""
    make, shape, formula = CASES[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(shape)
    params = {key: value.detach() for key, value in model.named_parameters()}

    def one(params, xi):
        return functional_call(model, params, (xi[None],))[0]

    def kernel():
        jac = vmap(jacrev(one), (None, 0))(params, x)
        flat = [leaf.flatten(2) for leaf in jac.values()]
        return sum(torch.einsum(formula, leaf, leaf) for leaf in flat)

    report(measure(lambda: kernel))


if __name__ == "__main__":
    main(sys.argv[1])
