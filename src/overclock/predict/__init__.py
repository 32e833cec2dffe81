"""The cost model: from measured kernels to the time of any program on any batch."""
