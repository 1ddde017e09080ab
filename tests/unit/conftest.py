"""Properties are tried with the same examples in every run, and are never a matter of time."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
