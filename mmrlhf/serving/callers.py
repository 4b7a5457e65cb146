"""Who may ask a server that has no token: programs on this machine, and no web page that is open in a browser.

A page of any site can have a browser send requests to a server on localhost, and, with a name that first leads to the
site and then to localhost (DNS rebinding), read the answers as its own. Its requests name another host, or say which
page they come from.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from mmrlhf.serving.wire import Refused


def check_caller(headers: Mapping[str, str], bound: str) -> None:
    """Looks at where a request is sent to and where it comes from; `bound` is the address that the server listens on.

    Raises:
        Refused: 403, a Host that isn't this server, or an Origin that isn't (a web page of another).
    """
    host = headers.get("host", "")
    if not _is_ours(_name(f"http://{host}"), bound):
        raise Refused(
            403,
            f"the request is for the host {host[:80]!r}, which isn't this server; one with a token takes any",
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin.lower()).netloc != host.lower():
        raise Refused(403, "the request comes from a web page of another origin")


def is_local(host: str) -> bool:
    """Whether a name or an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(address: str) -> str:
    """The host of an address, without its port; nothing where it is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, bound: str) -> bool:
    if is_local(name) or name == bound.lower():
        return True
    try:
        everywhere = ipaddress.ip_address(bound).is_unspecified
    except ValueError:
        return False
    if not everywhere:
        return False
    # of a server on all addresses these are its names; a page can't choose what they lead to
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name in (socket.gethostname().lower(), socket.getfqdn().lower())
