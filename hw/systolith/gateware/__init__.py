"""The accelerator in Amaranth HDL: synthesizable components only."""
