"""The KV cache as shared prefixes: who holds which cells, and what is kept for later."""
