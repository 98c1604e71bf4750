"""The archive at an address, whatever is spoken there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from srh_clinic.errors import InputError
from srh_clinic.pacs.address import Node, parse_address
from srh_clinic.pacs.credentials import Trust, credentials_for
from srh_clinic.pacs.dimse import TITLE, How, NodeArchive
from srh_clinic.pacs.objects import Archive
from srh_clinic.pacs.web import WebArchive


@dataclass(frozen=True)
class Calling:
    """How we call, as options say it.

    Attributes
    ----------
    title
        Our AE title.
    how, port
        See :class:`~srh_clinic.pacs.dimse.NodeArchive`.
    """

    title: str = TITLE
    trust: Trust = field(default_factory=Trust)
    how: How = "get"
    port: int = 0


def archive_at(text: str, calling: Calling, environ: Mapping[str, str]) -> Archive:
    """The archive at an address as a user writes it.

    Raises
    ------
    InputError
        When it is no address, a certificate cannot be used, or credentials would be readable on their way.
    """
    address = parse_address(text)
    for package in ("pynetdicom",) if isinstance(address, Node) else ("urllib3", "websocket"):
        if find_spec(package) is None:
            raise InputError(f"that the package {package} is not installed", "pip install 'srh-clinic[pacs]'")
    if isinstance(address, Node):
        return NodeArchive(address, calling.title, calling.trust, calling.how, calling.port)
    return WebArchive(address, calling.trust, credentials_for(address, environ))
