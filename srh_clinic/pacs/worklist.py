"""Workitems by UPS-RS (PS3.18 section 11), as a performer sees them: what stands in one, what is said of it, and to whom.

A performer searches for what is scheduled, claims a workitem by a Transaction UID of its own, tells how far it is, and ends
it as completed, with references to the results, or as canceled, with a reason (IHE AIW-I). Everything here but
:class:`Worklist` is a function from datasets as DICOM JSON to others. No name, no identifier of a patient and no sentence of a
library goes into any of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import groupby
from typing import Any, Literal
from urllib.parse import quote

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from srh_clinic import __version__
from srh_clinic.errors import InputError
from srh_clinic.integration.targets import MANUFACTURER
from srh_clinic.pacs.address import Node, WebAddress
from srh_clinic.pacs.dicom_json import MEDIA_TYPE, Json, code_item, dataset_of, datasets_in, items, text, values
from srh_clinic.pacs.objects import Instance, ServiceError, checked_uid
from srh_clinic.pacs.web import WebArchive

State = Literal["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"]

CANCEL_REQUESTED = 2
"""Event Type ID of a cancel request (PS3.4 table CC.2.4-1)."""

PRIORITIES = ("HIGH", "MEDIUM", "LOW")

NOT_OURS = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)
"""Answers to a performer whose Transaction UID or whose idea of the workitem's state is not that of the service."""

Cause = Literal["requested", "incomplete", "not-srh", "damaged", "conflict", "memory", "defect", "results-refused"]

CAUSES: dict[Cause, tuple[Code, str]] = {
    "requested": (codes.DCM.DiscontinuedForUnspecifiedReason, "Its requester asked for it to be canceled."),
    "incomplete": (codes.DCM.ObjectSetIncomplete, "Input objects are missing, or one of the two Raman shifts is."),
    "not-srh": (codes.DCM.ObjectTypesNotSupported, "The input is no SRH slide of two Raman shifts that can be restored."),
    "damaged": (codes.DCM.ObjectsIncorrectlyFormatted, "An input object cannot be read."),
    "conflict": (codes.DCM.ObjectsIncorrectlyFormatted, "Two different objects have one SOP Instance UID."),
    "memory": (codes.DCM.ResourceInadequate, "Workers ended while they had the case; it may need more memory."),
    "defect": (codes.DCM.EquipmentFailure, "The software failed; its operator finds the reason in its ledger."),
    "results-refused": (codes.DCM.EquipmentFailure, "The results were made, and the archive did not take them."),
}
"""Why a performer gives up: a code of CID 9300, and a sentence without a word about whose case it is."""

CAUSE_OF: dict[str, Cause] = {
    "channel-missing": "incomplete",
    "level-missing": "incomplete",
    "not-srh": "not-srh",
    "refused": "not-srh",
    "unreadable": "damaged",
    "worker-died": "memory",
}
"""The cause that the ledger's word for a parked case stands for; any other is a defect."""


@dataclass(frozen=True)
class Input:
    """Objects that a workitem is about: the instances that are named, or all of a series, or of a study."""

    study: str
    series: str
    sops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filter:
    """Which workitems are for us, by the code of the scheduled station and of what is to be done; empty for any."""

    station: str = ""
    code: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The same for a search of what is scheduled and whose input is there."""
        asked = {"ProcedureStepState": "SCHEDULED", "InputReadinessState": "READY"}
        if self.station:
            asked["ScheduledStationNameCodeSequence.CodeValue"] = self.station
        if self.code:
            asked["ScheduledWorkitemCodeSequence.CodeValue"] = self.code
        return asked

    def takes(self, workitem: Json) -> bool:
        """Whether a workitem is for us, seen here too: services may take no notice of a key that they do not know."""
        wanted = (("ScheduledStationNameCodeSequence", self.station), ("ScheduledWorkitemCodeSequence", self.code))
        return (
            state_of(workitem) == "SCHEDULED"
            and text(workitem, "InputReadinessState") in ("READY", "")
            and all(not code or code in [text(item, "CodeValue") for item in items(workitem, name)] for name, code in wanted)
        )


def state_of(workitem: Json) -> str:
    """Its Procedure Step State."""
    return text(workitem, "ProcedureStepState")


def uid_of(workitem: Json) -> str:
    """What it is known by.

    Raises
    ------
    InputError
        When that is no UID.
    """
    return checked_uid(text(workitem, "SOPInstanceUID"))


def urgency(workitem: Json) -> tuple[int, str, str]:
    """Sorts workitems: by priority, by when they are scheduled for, and by UID, so that every order is the same everywhere."""
    priority = text(workitem, "ScheduledProcedureStepPriority")
    place = PRIORITIES.index(priority) if priority in PRIORITIES else 1
    return place, text(workitem, "ScheduledProcedureStepStartDateTime"), text(workitem, "SOPInstanceUID")


def inputs_of(workitem: Json) -> list[Input]:
    """What its Input Information Sequence refers to.

    Raises
    ------
    InputError
        When an item holds no UID where there should be one.
    """
    return [
        Input(
            checked_uid(text(item, "StudyInstanceUID")),
            checked_uid(text(item, "SeriesInstanceUID")) if values(item, "SeriesInstanceUID") else "",
            tuple(checked_uid(text(sop, "ReferencedSOPInstanceUID")) for sop in items(item, "ReferencedSOPSequence")),
        )
        for item in items(workitem, "InputInformationSequence")
    ]


def change_of(state: State, transaction: str) -> Json:
    """What changes the state of a workitem."""
    return dataset_of(ProcedureStepState=state, TransactionUID=transaction)


def progress_of(percent: float, words: str) -> Json:
    """How far a performer is."""
    item = dataset_of(ProcedureStepProgress=f"{percent:.0f}", ProcedureStepProgressDescription=words)
    return dataset_of(ProcedureStepProgressInformationSequence=[item])


def completion_of(
    workitem: Json, began: datetime, ended: datetime, outputs: Sequence[Instance], there: WebAddress | Node
) -> Json:
    """What has to stand in a workitem before it is completed (PS3.4 table CC.2.5-3); its results are ``there``."""
    performed = dataset_of(
        ActualHumanPerformersSequence=None,
        PerformedStationNameCodeSequence=items(workitem, "ScheduledStationNameCodeSequence"),
        PerformedStationClassCodeSequence=items(workitem, "ScheduledStationClassCodeSequence"),
        PerformedWorkitemCodeSequence=items(workitem, "ScheduledWorkitemCodeSequence") or [_item(codes.DCM.ImageProcessing)],
        PerformedProcedureStepStartDateTime=_moment(began),
        PerformedProcedureStepEndDateTime=_moment(ended),
        PerformedProcedureStepDescription=f"{MANUFACTURER} {__version__}",
        OutputInformationSequence=list(_references(outputs, there)),
    )
    return progress_of(100, "results are stored") | dataset_of(UnifiedProcedureStepPerformedProcedureSequence=[performed])


def outputs_of(workitem: Json) -> set[str]:
    """SOP instance UIDs of the results that a workitem refers to."""
    performed = items(workitem, "UnifiedProcedureStepPerformedProcedureSequence")
    series = [item for one in performed for item in items(one, "OutputInformationSequence")]
    return {text(sop, "ReferencedSOPInstanceUID") for item in series for sop in items(item, "ReferencedSOPSequence")}


def cancellation_of(cause: Cause, when: datetime, requested: Json | None = None) -> Json:
    """What has to stand in a workitem before it is canceled; of a request the reason's codes are repeated."""
    code, words = CAUSES[cause]
    given = items(requested or {}, "ProcedureStepDiscontinuationReasonCodeSequence")
    item = dataset_of(
        ProcedureStepCancellationDateTime=_moment(when),
        ProcedureStepDiscontinuationReasonCodeSequence=given or [_item(code)],
        ReasonForCancellation=words,
    )
    return dataset_of(ProcedureStepProgressInformationSequence=[item])


def _references(outputs: Sequence[Instance], there: WebAddress | Node) -> Iterator[Json]:
    """An item for each series, with where it can be had."""
    for (study, series), those in groupby(sorted(outputs), key=lambda one: (one.study, one.series)):
        if isinstance(there, Node):
            where = {"DICOMRetrievalSequence": [dataset_of(RetrieveAETitle=there.title)]}
        else:
            url = f"{there.url}/studies/{study}/series/{series}"
            where = {"WADORSRetrievalSequence": [dataset_of(RetrieveURL=url)]}
        sops = [dataset_of(ReferencedSOPClassUID=one.sop_class, ReferencedSOPInstanceUID=one.sop) for one in those]
        named: dict[str, Any] = {"TypeOfInstances": "DICOM", "StudyInstanceUID": study, "SeriesInstanceUID": series}
        yield dataset_of(**named, ReferencedSOPSequence=sops, **where)


def _item(code: Code) -> Json:
    return code_item(code.value, code.scheme_designator, code.meaning)


def _moment(when: datetime) -> str:
    """A time as DICOM writes it (DT), with the offset from UTC."""
    return when.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f%z")


class LostClaimError(Exception):
    """A workitem is not ours, or no longer: what we say of it is not taken."""


class Worklist:
    """The workitems of a service.

    Parameters
    ----------
    title
        Our AE title, by which events are subscribed to.
    """

    def __init__(self, service: WebArchive, title: str) -> None:
        self.service, self.title = service, title

    @property
    def name(self) -> str:
        """What ledger and logs call it."""
        return str(self.service.address)

    def scheduled(self, which: Filter) -> list[Json]:
        """What waits for somebody like us, the most urgent first. A workitem without a UID or input is nobody's here.

        Raises
        ------
        ServiceError
            When the service does not answer.
        """
        found = self.service.search("workitems", which.query, what="a search for workitems")
        return sorted((one for one in found if which.takes(one) and _is_sound(one)), key=urgency)

    def retrieve(self, uid: str) -> Json:
        """A workitem as it is now.

        Raises
        ------
        LostClaimError
            When there is none.
        ServiceError
            When the service does not answer.
        """
        found = self._ask("GET", uid, "", "a retrieval of a workitem", None)
        if not found:
            raise LostClaimError
        return found[0]

    def change(self, uid: str, state: State, transaction: str) -> None:
        """Claim, complete or cancel a workitem.

        Raises
        ------
        LostClaimError
            When it is another's, or is at an end.
        ServiceError
            When the service does not answer.
        """
        self._ask("PUT", uid, "/state", "a change of a workitem's state", change_of(state, transaction))

    def update(self, uid: str, transaction: str, changes: Json) -> None:
        """Say something of a workitem that we have claimed; the Transaction UID stands in the query and in the dataset.

        Raises
        ------
        LostClaimError
            As :meth:`change`.
        ServiceError
            As :meth:`change`.
        """
        said = {**changes, **dataset_of(TransactionUID=transaction)}
        self._ask("POST", uid, f"?{transaction}", "an update of a workitem", said)

    def subscribe(self, uid: str) -> bool:
        """Ask to be told of cancel requests for a workitem; False when the service tells nobody.

        Raises
        ------
        ServiceError
            When it does not answer.
        """
        try:
            self._ask("POST", uid, f"/subscribers/{quote(self.title)}", "a subscription", None)
        except LostClaimError:
            return False
        except ServiceError as error:
            if error.status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
                return False
            raise
        return True

    def _ask(self, method: str, uid: str, below: str, what: str, said: Json | None) -> list[Json]:
        headers = {"Accept": MEDIA_TYPE} | ({} if said is None else {"Content-Type": MEDIA_TYPE})
        path, _, query = f"workitems/{checked_uid(uid)}{below}".partition("?")
        body = b"" if said is None else as_body([said])
        try:
            answer = self.service.ask(method, path, what=what, query=query, headers=headers, body=body)
        except ServiceError as error:
            if error.status in NOT_OURS:
                raise LostClaimError from error
            raise
        return datasets_in(answer, what, self.name) if method == "GET" else []


def as_body(datasets: Sequence[Json]) -> bytes:
    """Datasets as the body of a request: an array, as DICOM JSON always is."""
    return json.dumps(datasets, sort_keys=True).encode()


def _is_sound(workitem: Json) -> bool:
    try:
        uid_of(workitem)
        return bool(inputs_of(workitem))
    except InputError:
        return False
