"""What the web server refuses before Gradio sees it, and the headers that keep a page from calling elsewhere."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 2_000_000  # bytes of a message; pictures come as uploads, which have a limit of their own
_UPLOAD = "/gradio_api/upload"
_CLOSED = ("/gradio_api/proxy=", "/gradio_api/process_recording", "/monitoring")  # routes that the demo has no use for
# The page's own scripts are inline and compile templates; everything else comes from here alone.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """ASGI middleware around Gradio.

    Gradio fetches a URL for whoever names one as a file; here only what was uploaded is one. How large an upload may
    be is Gradio's to check, but it says so in bytes: the message is made readable.

    Args:
        app: What is guarded.
        folder: Resolved; where uploads are.
        megabytes: Largest upload, for the message.
    """

    def __init__(self, app: App, folder: Path, megabytes: int) -> None:
        self.app = app
        self.folder = folder
        self.megabytes = megabytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = unquote(scope["path"])
        send = _with_headers(send)
        if any(closed in path for closed in _CLOSED) or "://" in path:
            await _answer(send, 403, "This demo serves its own pictures only.")
        elif _UPLOAD in path:
            await self._upload(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        too_large = False

        async def reworded(message: Message) -> None:
            nonlocal too_large
            if message["type"] == "http.response.start" and message["status"] == 413:
                too_large = True
                return
            if too_large:
                if not message.get("more_body"):
                    text = f"The file is too large: expected at most {self.megabytes} MB; make it smaller"
                    await _answer(send, 413, text)
                return
            await send(message)

        await self.app(scope, receive, reworded)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                await _answer(send, 413, f"The message is too large: expected at most {MAX_BODY} bytes")
                return
            if not message.get("more_body"):
                break
        if names_a_foreign_file(body, self.folder):
            await _answer(
                send, 403, "Expected a picture that was uploaded here, got another file or URL; upload it first"
            )
            return
        is_read = False

        async def replay() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


def names_a_foreign_file(body: bytes, folder: Path) -> bool:
    """Whether a JSON message names a file outside of a folder.

    >>> names_a_foreign_file(b'{"data": [{"path": "https://example.org/a.png"}]}', Path("/tmp"))
    True

    Args:
        body: Of a request; what is no JSON names nothing.
        folder: Resolved.

    Returns:
        True where a ``path`` is a URL or relative, or lies elsewhere.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return not all(_lies_in(folder, path) for path in _paths(content))


def _lies_in(folder: Path, path: str) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError):  # names that no file can have
        return False


def _paths(content: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
            if isinstance(path := value.get("path"), str):
                yield path
        elif isinstance(value, list):
            pending += value


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode() if status != 413 else text.encode()
    kind = b"application/json" if status != 413 else b"text/plain; charset=utf-8"
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
