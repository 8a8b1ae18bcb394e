"""Packages that stand alone: Verilog, memories, constraints, descriptions, drivers and scripts."""
