"""The contract: configuration, instruction set, registers, numerics and program format.

Pure Python and NumPy. Compiler, golden model, driver and gateware meet only here.
"""
