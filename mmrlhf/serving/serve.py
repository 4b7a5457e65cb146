"""`mmrlhf serve-reward`: a reward model behind an address, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from data_tools.errors import RunError, UserError
from mmrlhf.models.load import choose_device
from mmrlhf.rewards.model import load_reward_model
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.terminal import console

MISSING = "serve-reward needs FastAPI, uvicorn and python-multipart ({}): pip install 'mmrlhf[serve]'"


def serve(
    path: Path,
    host: str,
    port: int,
    settings: ServerSettings,
    token_env: str | None = None,
    device: str | None = None,
) -> None:
    """Serves until Ctrl-C (KeyboardInterrupt) or SIGTERM (SystemExit with 0); what has come in is answered first.

    Raises:
        UserError: the extra isn't installed, the address can't be taken, the token isn't set, or no reward model there.
    """
    try:
        from mmrlhf.serving.app import make_app
        from mmrlhf.serving.callers import is_local
        from mmrlhf.serving.protocol import make_server
    except ModuleNotFoundError as error:
        raise UserError(MISSING.format(error)) from error
    token = _token(token_env)
    with listening(host, port) as opened:
        where = _address(opened)
        if token is None and not is_local(host):
            console.print(
                f"warning: whoever reaches {where} can use this server; name a token with --token-env",
                style="yellow",
                markup=False,
            )
        model = load_reward_model(path, choose_device(device))
        app = make_app(model, str(path), settings, token, host)
        # uvicorn answers what has come in, and then hands the signal to this
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        objectives = ", ".join(model.card.objectives)
        console.print(
            f"{path} ({objectives}) on {where}; Ctrl-C stops", style="dim", markup=False, soft_wrap=True
        )
        server = make_server(app)
        server.run(sockets=[opened])
    if not server.started:
        raise RunError(f"the server of {path} didn't start; the lines above say why")


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to an address; it takes connections once the server runs. Port 0: any that is free.

    Raises:
        UserError: it can't be bound.
    """
    opened = None
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
    except OSError as error:
        if opened is not None:
            opened.close()
        raise UserError(
            f"can't listen on {host}, port {port} ({error}); choose another --host or --port"
        ) from error
    return opened


def _token(name: str | None) -> str | None:
    if name is None:
        return None
    token = os.environ.get(name, "").strip()
    if not token:
        raise UserError(f"--token-env {name}: the environment variable isn't set")
    if not token.isascii() or not token.isprintable() or " " in token:
        # the token itself is told nowhere
        raise UserError(
            f"--token-env {name}: the token holds a character that no header can have (an umlaut, a space, the end of "
            "a line); make one of ASCII letters, digits and signs"
        )
    return token


def _address(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
