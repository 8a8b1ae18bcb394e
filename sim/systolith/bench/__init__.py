"""Test bench: models to test with, reference runtimes, and simulation of the gateware."""
