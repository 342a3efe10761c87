"""The web server around the page: its address, what it lets through, its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.demo.studio import Studio

_LOCAL_HOSTS = ["127.0.0.1", "localhost", "::1", "[::1]"]
ENVIRONMENT = {  # None = the demo's folder
    "GRADIO_TEMP_DIR": None,
    "GRADIO_EXAMPLES_CACHE": None,
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_UNWANTED = ("GRADIO_ALLOWED_PATHS", "GRADIO_NUM_WORKERS", "GRADIO_SHARE")  # settings of other Gradio pages
_MAX_SESSIONS = 256  # of which the server remembers edits; the oldest is forgotten first
_MAX_EVENTS = 1000  # that Gradio holds; jobs have a bound of their own


def check_port(host: str, port: int) -> None:
    """Refuse an address that can not be had.

    Args:
        host: To listen at.
        port: To listen at.

    Raises:
        ConfigError: It is taken, not allowed, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"--port: expected a free port, got {port} at {host} ({error.strerror or error}); choose another with "
                "--port, or stop what uses it"
            ) from error


class Server:
    """The page on a port, until closed.

    Args:
        studio: Does the work.
        host: To listen at.
        port: To listen at; a free one.
    """

    def __init__(self, studio: Studio, *, host: str, port: int) -> None:
        _set_environment(studio)
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from mgie_lit.demo.guard import Guard
        from mgie_lit.demo.page import build_page
        from mgie_lit.demo.theme import CSS_PATH, SCRIPT_PATH, page_theme

        layers = [Middleware(Guard, folder=studio.files.folder, megabytes=studio.limits.megabytes)]
        if host in _LOCAL_HOSTS:  # else a foreign site could point its own name here
            layers.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_HOSTS))
        self.page = build_page(studio)
        studio.files.keep_present()
        self.page.queue(max_size=_MAX_EVENTS, default_concurrency_limit=None)
        _, url, _ = self.page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=["api", "settings"],
            max_file_size=studio.limits.bytes,
            state_session_capacity=_MAX_SESSIONS,
            theme=page_theme(),
            css_paths=CSS_PATH,
            head=f"<script>{SCRIPT_PATH.read_text(encoding='utf-8')}</script>",
            app_kwargs={"middleware": layers},
        )
        self.url = str(url)

    def close(self) -> None:
        """Stop listening."""
        self.page.close(verbose=False)


def serve(studio: Studio, *, host: str, port: int) -> None:
    """Serve until interrupted (Ctrl-C) or terminated.

    Args:
        studio: Does the work.
        host: To listen at.
        port: To listen at.
    """
    ended = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server = Server(studio, host=host, port=port)
    print(server.url, flush=True)
    ended.wait()
    server.close()


def _set_environment(studio: Studio) -> None:
    """Gradio reads these when it is imported, and at every upload."""
    folder = str(studio.files.folder)
    os.environ.update({name: folder if value is None else value for name, value in ENVIRONMENT.items()})
    for name in _UNWANTED:
        os.environ.pop(name, None)
