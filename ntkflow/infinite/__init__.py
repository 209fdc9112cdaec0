"""Kernels of infinitely wide networks, layer by layer.

A network is a `Sequential` of layers and activations; called on examples it gives their
NNGP kernel and their NTK. One layer is one file: see `AbstractLayer` to add another.
"""

from ntkflow.infinite._activation import AbstractActivation as AbstractActivation
from ntkflow.infinite._compute import Kernels as Kernels
from ntkflow.infinite._dense import Dense as Dense
from ntkflow.infinite._flatten import Flatten as Flatten
from ntkflow.infinite._layer import AbstractLayer as AbstractLayer
from ntkflow.infinite._moments import Moments as Moments
from ntkflow.infinite._relu import Abs as Abs, LeakyRelu as LeakyRelu, Relu as Relu
from ntkflow.infinite._sequential import Sequential as Sequential
