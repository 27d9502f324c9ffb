"""Side-by-side measurements. Each prints its ratio; CI runs each once at a toy size and asserts no time."""
