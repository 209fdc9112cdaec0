"""Real data sets, as arrays.

`digits` and `mnist` bring their data along; `from_file` reads `.npz` and IDX files;
`from_arrays` is what all of them end in: it checks, splits, standardizes on the
training part alone, and encodes the targets. Everything is numpy until the last step.
"""

from ._arrays import from_arrays as from_arrays
from ._builtin import digits as digits, mnist as mnist
from ._dataset import Dataset as Dataset
from ._files import from_file as from_file
