"""What the keys of [registry] may be, beyond their types and ranges."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from appliance import limits, semver, windows
from appliance.address import Address
from appliance.config import RegistryConfig
from appliance.registry_names import HOST, REPOSITORY, VISIBLE

LAYOUT = "layout:"
# No network at all: releases come on sticks.
OFFLINE = "offline:"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATTERN = re.compile(r"[a-z0-9.*?_\[\]!-]{1,128}")


def problems(config: RegistryConfig) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it and what to do), of the first on."""
    yield from _addresses(config)
    yield from _files(config)
    if config.prefix and not REPOSITORY.fullmatch(config.prefix):
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
    if (config.shadow_percent or config.canary_percent) and not (config.compare_calls or config.compare_seconds):
        yield "registry.compare_seconds", "is 0, and so is registry.compare_calls: an update would never take over"
    yield from _pins(config.pins)
    yield from _windows(config.windows)


def pinned(config: RegistryConfig) -> dict[str, str]:
    """Line -> version."""
    return dict(tuple(pin.split("=", 1)) for pin in config.pins)  # type: ignore[misc]  # problems() has seen the "="


def _addresses(config: RegistryConfig) -> Iterator[tuple[str, str]]:
    if config.url and config.url != OFFLINE:
        yield from _address("registry.url", config.url, config.insecure)
    if config.mirrors and config.url in ("", OFFLINE):
        yield "registry.mirrors", "are further registries, but registry.url names none"
    if len(config.mirrors) > limits.registry_mirrors_max:
        yield "registry.mirrors", f"{len(config.mirrors)} entries, at most {limits.registry_mirrors_max} are allowed"
    for index, url in enumerate(config.mirrors):
        yield from _address(f"registry.mirrors[{index}]", url, config.insecure)
        if url in (config.url, *config.mirrors[:index]):
            yield f"registry.mirrors[{index}]", f"{url[:80]!r} is named twice; once is enough"
    if config.proxy:
        # A proxy's password is not in the file of credentials, and never shown back.
        scheme, separator, rest = config.proxy.partition("://")
        shown = scheme + separator + rest.rpartition("@")[2]
        if wrong := _server(shown, "http://HOST:PORT"):
            yield "registry.proxy", wrong


def _address(key: str, url: str, insecure: bool) -> Iterator[tuple[str, str]]:
    """A folder, or a server that nobody can listen to unless the operator wrote out that they may."""
    path = url.removeprefix(LAYOUT)
    if path != url:
        if not PurePosixPath(path).is_absolute() or "\0" in path:
            yield key, f"the folder {path[:80]!r} must be an absolute path"
    elif "@" in url:
        yield key, "holds a user or a password; those belong into the file of registry.credentials"
    elif wrong := _server(url, 'https://HOST[:PORT], "layout:" and a folder, or "offline:"'):
        yield key, wrong
    elif not (url.startswith("https:") or insecure or Address(urlsplit(url).hostname or "", 0).is_loopback):
        words = (
            f"{url[:80]!r} is not encrypted; write https://, or, if everybody on that network may read what is sent, "
            "passwords included, registry.insecure = true"
        )
        yield key, words


def _server(url: str, expected: str) -> str:
    """What is wrong with ``scheme://HOST[:PORT]``, "" when nothing is."""
    wrong = f"{url[:80]!r} must be {expected}"
    if len(url) > limits.registry_url_chars_max or not VISIBLE.fullmatch(url):
        return wrong
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return wrong
    if not url.startswith(("http://", "https://")) or not host or not HOST.fullmatch(host) or port == 0:
        return wrong
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        return f"{url[:80]!r} has more than a host and a port; what follows is written as registry.prefix"
    return ""


def _files(config: RegistryConfig) -> Iterator[tuple[str, str]]:
    for given, missing in (("certificate", "key"), ("key", "certificate")):
        if getattr(config, given) and not getattr(config, missing):
            yield f"registry.{given}", f"is set but registry.{missing} is not; set both, or neither"


def _windows(texts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if len(texts) > limits.registry_windows_max:
        yield "registry.windows", f"{len(texts)} entries, at most {limits.registry_windows_max} are allowed"
    for index, text in enumerate(texts):
        try:
            windows.parse(text)
        except ValueError as error:
            yield f"registry.windows[{index}]", f"{text[:80]!r}: {error}"


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
