"""What runs a program: the native core, the NumPy reference, the virtual machine."""
