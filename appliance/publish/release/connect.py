"""Which registry publish.toml means, and the folder's own layout, both as one Registry."""

from pathlib import Path

from appliance.errors import FailedPrecondition
from appliance.publish.release.settings import Settings
from appliance.publish.release.upload import Registry


def layout(folder: Path) -> Registry:
    """An OCI image layout in a folder, which need not be there yet."""
    from appliance.registry.sources.layout import LayoutSource
    from appliance.registry.sources.layout_target import LayoutTarget

    return Registry(str(folder), LayoutSource(folder), LayoutTarget(folder))


def registry(settings: Settings, base: Path) -> Registry:
    """Where releases go; a path is relative to ``base``. Raises FailedPrecondition NO_REGISTRY."""
    url = settings.registry.url
    if not url:
        raise FailedPrecondition(
            "publish.toml names no registry: set registry.url to https://HOST or to the path of a folder",
            reason="NO_REGISTRY",
        )
    if not url.startswith(("https://", "http://")):
        return layout(base / url)
    from appliance.registry.http.options import HttpOptions
    from appliance.registry.http.source import HttpSource
    from appliance.registry.http.target import HttpTarget

    options = HttpOptions(
        url=url,
        ca=_path(base, settings.registry.ca_file),
        certificate=_path(base, settings.registry.client_certificate_file),
        key=_path(base, settings.registry.client_key_file),
        credentials=_path(base, settings.registry.credentials_file),
    )
    return Registry(url, HttpSource(options), HttpTarget(options))


def _path(base: Path, text: str) -> str:
    return str(base / text) if text else ""
