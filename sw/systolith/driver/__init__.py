"""Runs compiled programs on a device: registers, memory and interrupts through one transport."""
