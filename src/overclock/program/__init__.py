"""A model compiled to a flat list of tensor instructions over named buffers."""
