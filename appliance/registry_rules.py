"""What the keys of [registry] may be, beyond their types and ranges."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from appliance import limits, semver
from appliance.config import RegistryConfig

LAYOUT = "layout:"
# OCI distribution-spec 1.1, "Pulling manifests": the components of a repository's name.
_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATTERN = re.compile(r"[a-z0-9.*?_\[\]!-]{1,128}")


def problems(config: RegistryConfig) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it and what to do), of the first on."""
    if config.url:
        yield from _url(config.url)
    if config.prefix and not _PREFIX.fullmatch(config.prefix):
        yield (
            "registry.prefix",
            f"{config.prefix[:80]!r} cannot begin a repository's name: lower case, as in plant/north",
        )
    for key, word in (("channel", config.channel), ("region", config.region)):
        if word and not _WORD.fullmatch(word):
            yield f"registry.{key}", f"{word[:80]!r} is not one word of letters, digits and . _ -"
    if not config.channel:
        yield "registry.channel", 'is empty; the usual one is "stable"'
    for key, words, allowed in (
        ("hardware", config.hardware, _WORD),
        ("allow", config.allow, _PATTERN),
        ("deny", config.deny, _PATTERN),
    ):
        if len(words) > limits.registry_words_max:
            yield f"registry.{key}", f"{len(words)} entries, at most {limits.registry_words_max} are allowed"
        for index, word in enumerate(words):
            if not allowed.fullmatch(word):
                yield f"registry.{key}[{index}]", f"{word[:80]!r} is neither a name nor a pattern of names"
    yield from _pins(config.pins)


def pinned(config: RegistryConfig) -> dict[str, str]:
    """Line -> version."""
    return dict(tuple(pin.split("=", 1)) for pin in config.pins)  # type: ignore[misc]  # problems() has seen the "="


def _url(url: str) -> Iterator[tuple[str, str]]:
    path = url.removeprefix(LAYOUT)
    if path == url:
        yield "registry.url", f'{url[:80]!r} must be "layout:" and a folder, as in layout:/srv/models'
    elif not PurePosixPath(path).is_absolute() or "\0" in path:
        yield "registry.url", f"the folder {path[:80]!r} must be an absolute path"


def _pins(pins: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    seen = set()
    for index, pin in enumerate(pins):
        key = f"registry.pins[{index}]"
        line, equals, version = pin.partition("=")
        if not (line and equals):
            yield key, f'{pin[:80]!r} must be a model and a version, as in "press=1.4.0"'
            continue
        try:
            semver.check(version)
        except ValueError as error:
            yield key, str(error)
        if line in seen:
            yield key, f"{line} is pinned twice; once is enough"
        seen.add(line)
