"""What a box decides about updates: which, when, what for them has to go; and what it remembers of those under way."""
