"""The same kernels by other libraries, each script run by a Python of its own."""
