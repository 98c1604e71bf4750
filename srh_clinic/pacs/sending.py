"""Results to a PACS by C-STORE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.pacs.destination import Destination, Sent, UnreachableError

_DIMSE = re.compile(r"dicom://(?P<title>[^@/\s]{1,16})@(?P<host>[^:/\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})/?")


@dataclass(frozen=True)
class CStore:
    """A store SCP at ``host:port`` called ``title``; ``calling`` is our own AE title."""

    title: str
    host: str
    port: int
    calling: str

    @property
    def name(self) -> str:
        """See :class:`Destination`."""
        return f"dicom://{self.title}@{self.host}:{self.port}"

    def send(self, objects: Sequence[Path]) -> Sent:
        """See :class:`Destination`."""
        from pydicom import dcmread
        from pydicom.filereader import read_file_meta_info
        from pynetdicom import AE
        from pynetdicom.presentation import build_context

        ae = AE(self.calling)
        metas = [read_file_meta_info(file) for file in objects]
        pairs = sorted({(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas})
        association = ae.associate(self.host, self.port, [build_context(*pair) for pair in pairs], ae_title=self.title)
        if not association.is_established:
            raise UnreachableError("refused-association" if association.is_rejected else "no-connection")
        accepted = {(context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts}
        stored, refused = 0, []
        try:
            for file, meta in zip(objects, metas, strict=True):
                if (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) not in accepted:
                    refused.append("no-presentation-context")
                    continue
                status = association.send_c_store(dcmread(file)).get("Status")
                if status is None:
                    raise UnreachableError("timeout")
                if status == 0 or status & 0xF000 == 0xB000:
                    stored += 1
                else:
                    refused.append(f"status-{status:04x}")
        finally:
            if association.is_established:
                association.release()
        return Sent(stored, tuple(refused))


def destination_of(address: str, calling: str) -> Destination:
    """What an address such as ``dicom://ORTHANC@127.0.0.1:4242`` leads to.

    Parameters
    ----------
    calling
        Our own AE title.

    Raises
    ------
    InputError
        When it is no address of a PACS.
    """
    found = _DIMSE.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise InputError(f"the address {address!r}", "one such as dicom://TITLE@HOST:PORT")
    return CStore(found["title"], found["host"].strip("[]"), int(found["port"]), calling)
