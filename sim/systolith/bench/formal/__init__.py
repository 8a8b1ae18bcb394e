"""Formal proofs of the gateware: properties, the runner of the solver, and edits for controls."""
