"""Delta updates: of a new blob only the chunks are fetched that no local blob has."""
