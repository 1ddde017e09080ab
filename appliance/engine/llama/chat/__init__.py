"""Conversations: the model's template, tools, reasoning, and what the answer's text means."""
