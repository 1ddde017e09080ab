"""TUF files by plain HTTP(S) paths, for scripts/tuf_client: no registry, no credentials, no redirects."""

from collections.abc import Iterator

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

from appliance import limits
from appliance.clock import monotonic_ms

_CHUNK_BYTES = 64 * 1024


class PlainHttpFetcher(FetcherInterface):
    """Raises DownloadError for everything that goes wrong; the base class bounds the size while it reads."""

    def __init__(self) -> None:
        retry = urllib3.Retry(total=3, redirect=0, status=0, backoff_factor=0.2)
        timeout = urllib3.Timeout(connect=limits.tuf_connect_s_max, read=limits.tuf_stall_s_max)
        self._pool = urllib3.PoolManager(retries=retry, timeout=timeout)

    def _fetch(self, url: str) -> Iterator[bytes]:
        if not url.startswith(("http://", "https://")):
            raise DownloadError(f"{url[:200]} is no http or https URL")
        # "identity": a compressed answer could be a hundred times its size, and a length would mean two things.
        # Redirects: urllib3 would read the whole body of each, which may have no end.
        response = self._pool.request(
            "GET", url, preload_content=False, redirect=False, headers={"Accept-Encoding": "identity"}
        )
        if response.status != 200:
            response.close()
            raise DownloadHTTPError(f"{url[:200]}: HTTP status {response.status}", response.status)
        return _chunks(response, url)


def _chunks(response: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
    until_ms = monotonic_ms() + limits.tuf_fetch_s_max * 1000
    try:
        # read() would wait until it has all of them, and a byte now and then is no stall.
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            if monotonic_ms() > until_ms:
                raise SlowRetrievalError(f"{url[:200]} takes longer than {limits.tuf_fetch_s_max} s")
            yield chunk
    except urllib3.exceptions.HTTPError as error:
        raise DownloadError(f"{url[:200]}: {error}") from error
    finally:
        response.close()
