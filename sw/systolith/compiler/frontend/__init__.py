"""Front ends: from model files to `systolith.compiler.ir.Graph`."""
