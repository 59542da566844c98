"""Setun: ahead-of-time compiler and runtime for 1-bit and 1.58-bit neural networks.

Importing this package is cheap and needs neither torch nor the native module; submodules load what they need.
"""

__version__ = "0.1.0"
