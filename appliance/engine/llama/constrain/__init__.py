"""Answers that always parse: JSON Schema, regex, grammars and choices as token masks."""
