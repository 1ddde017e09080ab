"""Texts to numbers: embeddings and relevance."""
