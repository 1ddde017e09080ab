"""Guessing the next tokens, to be verified in the same batch."""
