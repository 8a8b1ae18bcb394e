"""Soft errors: single bits of generated hardware are flipped, and what becomes of that is counted.

The Verilog is changed for the bench alone (`instrument`), so that what is delivered has no hook.
"""
