"""An OCI registry in memory, a real HTTP server on loopback, whose answers go wrong as a script says, request by request."""

import base64
import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from appliance.store.manifest import MANIFEST_TYPE, digest_of

_PLACES = (
    ("token", re.compile(r"/token")),
    ("manifest", re.compile(r"/v2/(.+)/manifests/([^/]+)")),
    ("upload", re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)")),
    ("blob", re.compile(r"/v2/(.+)/blobs/([^/]+)")),
    ("tags", re.compile(r"/v2/(.+)/tags/list")),
)


class Fault(NamedTuple):
    """How one answer goes wrong. ``status``: that instead, with ``headers`` (which otherwise come on top, or replace).

    ``cut``: after so many bytes of the body the line breaks. ``stall``: then nothing comes until the event is set.
    ``corrupt``: the byte at that place is another. ``whole``: Range is ignored. ``raw``: these bytes instead of HTTP.
    ``endless``: the body never ends. ``before``: the line breaks without an answer. ``deaf``: so it does after the deed.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: int = -1
    stall: threading.Event | None = None
    corrupt: int = -1
    whole: bool = False
    raw: bytes = b""
    endless: bool = False
    before: bool = False
    deaf: bool = False


class Seen(NamedTuple):
    kind: str
    method: str
    path: str
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    registry: "RegistrySimulator"

    def handle_error(self, request: object, client_address: object) -> None: ...  # broken lines are what we are for


class RegistrySimulator:
    """``faults``: for each kind of request (blob, manifest, tags, upload, token) how the next ones go; then all goes well.

    ``always``: how all of a kind go. ``seen``: the requests. ``sent``: bytes of bodies that went out.
    """

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.seen: list[Seen] = []
        self.sent = 0
        self.connections = 0
        self.tags_page = 1000
        # "user:password"; with ``realm`` by tokens that it gives out, otherwise Basic.
        self.login = ""
        self.realm = ""
        self.tokens: set[str] = set()
        self.token_s = 300
        self.upload_location = ""
        # How long it hashes an upload before it answers.
        self.upload_pause_s = 0.0
        self.tls: ssl.SSLContext | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["RegistrySimulator"]:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.registry = self
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.netloc = f"127.0.0.1:{server.server_address[1]}"
        self.url = f"{'https' if self.tls else 'http'}://{self.netloc}"
        thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def use_tls(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        if client_ca is not None:
            self.tls.load_verify_locations(client_ca)
            self.tls.verify_mode = ssl.CERT_REQUIRED

    def add_blob(self, repository: str, data: bytes) -> str:
        self.blobs[repository, digest_of(data)] = data
        return digest_of(data)

    def add_manifest(self, repository: str, tag: str, data: bytes, media_type: str = MANIFEST_TYPE) -> str:
        for reference in (tag, digest_of(data)):
            self.manifests[repository, reference] = media_type, data
        return digest_of(data)

    def asked(self, kind: str, method: str = "GET") -> list[Seen]:
        return [seen for seen in self.seen if (seen.kind, seen.method) == (kind, method)]

    def fault(self, kind: str) -> Fault:
        waiting = self.faults.get(kind)
        return waiting.pop(0) if waiting else self.always.get(kind, Fault())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None: ...

    def handle(self) -> None:
        self.server.registry.connections += 1
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        registry, path = self.server.registry, urlsplit(self.path).path
        # A proxy gets whole URLs; this one then answers itself.
        found = next(((kind, m) for kind, pattern in _PLACES if (m := pattern.fullmatch(path))), None)
        kind, match = found if found else ("other", None)
        registry.seen.append(Seen(kind, self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            return
        self.fault = registry.fault(kind)
        if self.fault.raw or self.fault.before:
            self.wfile.write(self.fault.raw)
            self.close_connection = True
        elif self.fault.status or self.fault.endless:
            self.answer(self.fault.status or 200, (), self.fault.body)
        elif kind == "token":
            self.give_token()
        elif self.admitted():
            getattr(self, f"{self.command}_{kind}".lower(), self.nothing)(body, *(match.groups() if match else ()))

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815 - the names that http.server calls

    def admitted(self) -> bool:
        registry, sent = self.server.registry, self.headers.get("Authorization", "")
        if (
            not registry.login
            or sent.removeprefix("Bearer ") in registry.tokens
            or (not registry.realm and self.knows())
        ):
            return True
        challenge = f'Bearer realm="{registry.realm}",service="simulator",scope="repository:all:*"'
        self.answer(401, (("WWW-Authenticate", challenge if registry.realm else 'Basic realm="simulator"'),))
        return False

    def knows(self) -> bool:
        login = base64.b64encode(self.server.registry.login.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {login}"

    def give_token(self) -> None:
        registry = self.server.registry
        if registry.login and not self.knows():
            self.answer(401, ())
            return
        token = f"token-{len(registry.tokens)}"
        registry.tokens.add(token)
        self.answer(200, (), json.dumps({"token": token, "expires_in": registry.token_s}).encode())

    def nothing(self, *_: object) -> None:
        self.answer(404, (), b'{"errors":[{"code":"NAME_UNKNOWN"}]}')

    def get_manifest(self, _body: bytes, repository: str, reference: str) -> None:
        found = self.server.registry.manifests.get((repository, reference))
        if found is None:
            self.nothing()
            return
        tag = f'"{digest_of(found[1])}"'
        if self.headers.get("If-None-Match") == tag:
            self.answer(304, (("ETag", tag),))
        else:
            self.answer(200, (("ETag", tag), ("Content-Type", found[0])), found[1])

    def get_blob(self, _body: bytes, repository: str, digest: str) -> None:
        data = self.server.registry.blobs.get((repository, digest))
        if data is None:
            self.nothing()
            return
        headers = (("ETag", f'"{digest}"'), ("Content-Type", "application/octet-stream"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", f'"{digest}"') == f'"{digest}"'
        if wanted is None or self.fault.whole or not same:
            self.answer(200, headers, data)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if first >= len(data):
            self.answer(416, (("Content-Range", f"bytes */{len(data)}"),))
            return
        self.answer(206, (*headers, ("Content-Range", f"bytes {first}-{last}/{len(data)}")), data[first : last + 1])

    head_blob = get_blob

    def get_tags(self, _body: bytes, repository: str) -> None:
        registry = self.server.registry
        tags = sorted(tag for place, tag in registry.manifests if place == repository and ":" not in tag)
        if not tags:
            self.nothing()
            return
        last = parse_qs(urlsplit(self.path).query).get("last", [""])[0]
        page = [tag for tag in tags if tag > last]
        link = (
            f'</v2/{repository}/tags/list?n=2&last={page[registry.tags_page - 1]}>; rel="next"'
            if (len(page) > registry.tags_page)
            else ""
        )
        body = json.dumps({"name": repository, "tags": page[: registry.tags_page]}).encode()
        self.answer(200, (("Link", link),) if link else (), body)

    def post_upload(self, _body: bytes, repository: str, _upload: str) -> None:
        location = self.server.registry.upload_location or f"/v2/{repository}/blobs/uploads/7?_state=x"
        self.answer(202, (("Location", location),))

    def put_upload(self, body: bytes, repository: str, _upload: str) -> None:
        digest = parse_qs(urlsplit(self.path).query).get("digest", [""])[0]
        threading.Event().wait(self.server.registry.upload_pause_s)
        if digest_of(body) != digest:
            self.answer(400, (), b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            return
        self.server.registry.add_blob(repository, body)
        self.answer(201, ())

    def put_manifest(self, body: bytes, repository: str, reference: str) -> None:
        self.server.registry.add_manifest(repository, reference, body, self.headers["Content-Type"])
        self.answer(201, ())

    def answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes = b"") -> None:
        fault = self.fault
        if fault.deaf:
            self.close_connection = True
            return
        self.send_response_only(status)
        fields = {"Content-Length": str(len(body)), **dict(headers), **dict(fault.headers)}
        if fault.endless:
            del fields["Content-Length"]
            self.close_connection = True
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if fault.corrupt >= 0:
            body = body[: fault.corrupt] + bytes([body[fault.corrupt] ^ 1]) + body[fault.corrupt + 1 :]
        if self.command == "HEAD" or status == 304:
            return
        end = len(body) if fault.cut < 0 else fault.cut
        self.server.registry.sent += end
        self.wfile.write(body[:end])
        if fault.stall is not None:
            fault.stall.wait(60)
        self.close_connection = self.close_connection or end < len(body)
        with contextlib.suppress(OSError):
            while fault.endless:
                self.wfile.write(b"x" * 65536)
