"""The golden model: what every instruction means, in NumPy, without time.

Written from the instruction set alone; it shares declarations and numerics with the other packages
and nothing else, so that it stays a witness of compiler and gateware.
"""
