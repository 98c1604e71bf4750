"""Where the other side is: a DICOMweb service by its URL, or an application entity as ``AE@HOST:PORT``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from srh_clinic.errors import InputError

PLAIN, SECURE = "dicom", "dicoms"
"""Schemes that may stand before an application entity: ``dicoms://AE@HOST:PORT`` is called by TLS."""

NEEDED = "the URL of a DICOMweb service (https://pacs.example/dicom-web), AE@HOST:PORT, or dicoms://AE@HOST:PORT for TLS"

_TITLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,14}[\x21-\x7e])?")
_NODE = re.compile(r"(?P<title>[^@/:\\]+)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]@/:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class WebAddress:
    """A DICOMweb service; its ``url`` has no stroke at its end."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are for."""
        return origin_of(self.url)

    @property
    def is_private(self) -> bool:
        """Whether what is sent there stays unread on its way: TLS, or this very machine."""
        scheme, host, _ = self.origin
        return scheme == "https" or is_this_machine(host)


@dataclass(frozen=True)
class Node:
    """An application entity of the DICOM network: its title, where it listens, and whether by TLS."""

    title: str
    host: str
    port: int
    secure: bool = False

    def __str__(self) -> str:
        scheme = f"{SECURE}://" if self.secure else ""
        return f"{scheme}{self.title}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_address(text: str) -> WebAddress | Node:
    """An address as a user writes it.

    Raises
    ------
    InputError
        When it is none, or a URL holds a user, a password, a query or a fragment. What may be a secret is not repeated.
    """
    scheme, colon, rest = text.strip().partition("://")
    if colon and scheme not in (PLAIN, SECURE):
        return _web(text)
    found = _NODE.fullmatch(rest.rstrip("/") if colon else text.strip())
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise InputError("an address that is neither", NEEDED)
    where = found["host"].strip("[]"), int(found["port"])
    return Node(application_title(found["title"]), *where, secure=bool(colon) and scheme == SECURE)


def web_address(text: str) -> WebAddress:
    """The same where only a DICOMweb service will do.

    Raises
    ------
    InputError
        As :func:`parse_address`, and when it is an application entity.
    """
    found = parse_address(text)
    if isinstance(found, Node):
        raise InputError(f"{found}", "the URL of a DICOMweb service")
    return found


def application_title(text: str) -> str:
    """The title of an application entity (PS3.5, AE): 1 to 16 characters of ASCII, no backslash.

    Raises
    ------
    InputError
        When it is none.
    """
    title = text.strip()
    if not _TITLE.fullmatch(title) or "\\" in title:
        raise InputError("an AE title that is none", "1 to 16 characters of ASCII without a backslash")
    return title


def _web(text: str) -> WebAddress:
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise InputError("a URL that is none", NEEDED) from error
    if "@" in parts.netloc or "@" in parts.path or parts.username is not None:
        needed = "a URL without; SRH_CLINIC_PACS_USER and SRH_CLINIC_PACS_PASSWORD, or a keyring, hold them"
        raise InputError("a user or a password in a URL, where lists of processes and logs show it", needed)
    if parts.query or parts.fragment:
        raise InputError("a URL with a query or a fragment", "the service's address alone; a token goes into the environment")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InputError("a URL that is none of http or https", NEEDED)
    return WebAddress(parts._replace(path=parts.path.rstrip("/")).geturl())


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def is_this_machine(host: str) -> bool:
    """Whether what goes to a host never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
