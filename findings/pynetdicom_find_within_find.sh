#!/usr/bin/env bash
# pynetdicom 3.0.4: a C-FIND begun on an association while the answers of another are read takes the other's answers for its own.
#
# One would expect: send_c_find gives an iterator, so that a second query, for each study its series, may be sent on the same
# association while the first is read, or is refused with an error; an answer carries the Message ID of its query (PS3.7 9.1.2).
#
# What happens: the second query reads what comes next on the association, which is the rest of the first one's answers. It has the
# first one's studies among its series, or ends at once with the first one's final answer and has found nothing, status success; no
# error is raised. Read all answers of a query before the next one is sent.
#
# Versions: pynetdicom 3.0.4, pydicom 3.0.2, Python 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2
timeout 60 "$work/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

print("pynetdicom", version("pynetdicom"), "pydicom", version("pydicom"))


def answers(event):
    """Three studies, and of each study two series."""
    asked = event.identifier
    for number in range(3 if asked.QueryRetrieveLevel == "STUDY" else 2):
        said = Dataset()
        said.QueryRetrieveLevel = asked.QueryRetrieveLevel
        if asked.QueryRetrieveLevel == "STUDY":
            said.StudyInstanceUID = f"1.2.3.{number}"
        else:
            said.StudyInstanceUID, said.SeriesInstanceUID = asked.StudyInstanceUID, f"{asked.StudyInstanceUID}.{number}"
        yield 0xFF00, said


def query(level, **keys):
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def found(association, identifier):
    """What a query finds, as the level of each answer and its Study Instance UID; the last status too."""
    for status, said in association.send_c_find(identifier, FIND):
        yield status.Status if "Status" in status else None, said


server = AE("SERVER")
server.add_supported_context(FIND)
listening = server.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answers)])
client = AE("CLIENT")
client.add_requested_context(FIND)
client.dimse_timeout = 5
association = client.associate("127.0.0.1", listening.server_address[1])
assert association.is_established

by_turns = [said.StudyInstanceUID for _, said in list(found(association, query("STUDY", StudyInstanceUID=""))) if said]
series = [
    said for study in by_turns for _, said in list(found(association, query("SERIES", StudyInstanceUID=study, SeriesInstanceUID=""))) if said
]
print(f"one after the other: {len(by_turns)} studies, {len(series)} series")

outer = found(association, query("STUDY", StudyInstanceUID=""))
_, first = next(outer)
inner = list(found(association, query("SERIES", StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID="")))
levels = [said.QueryRetrieveLevel for _, said in inner if said]
print(f"one within the other: the search for series was answered by {levels}, statuses {[hex(s) for s, _ in inner if s is not None]}")
association.abort()
listening.shutdown()

assert (len(by_turns), len(series)) == (3, 6), "the behaviour has changed where queries follow each other"
assert "SERIES" not in levels, "the behaviour has changed: a query within another has its own answers"
assert inner[-1][0] == 0x0000, "the behaviour has changed: the query within another does not end well"
print("As described: no series was found, no error was raised, and the status is success.")
PYTHON
