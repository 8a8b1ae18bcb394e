"""The compiler: quantized models in, programs for one accelerator configuration out."""
