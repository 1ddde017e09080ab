"""What registries call things, and how their addresses are spelt: one pattern each for the configuration and for the wire."""

import re

# OCI distribution-spec 1.1, "Pulling manifests": a repository's <name>, and what may begin one.
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
REPOSITORY_CHARS_MAX = 255
# No backslash: what reads it as a slash sees another host than what doesn't.
VISIBLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
