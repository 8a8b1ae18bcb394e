"""Boards: what stands around the accelerator so that a host can use it."""
