"""What happens while raters rate: one of them gives up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.validation.study.folder import persons, read_protocol, read_sealed, read_viewers
from srh_clinic.validation.study.log import log_event, read_log
from srh_clinic.validation.study.records import KeyEntry, StudyProtocol
from srh_clinic.validation.study.return_checks import find_return
from srh_clinic.validation.study.returns import read_return


def drop_out(study: str | Path, rater: str, reason: str) -> str:
    """Record in the study's log that a rater gives up; what was answered until then stays.

    Returns
    -------
    How even the design remains, if everybody else answers everything: a sentence that tells nothing of any one task.

    Raises
    ------
    InputError
        When there is no such rater, the rater has finished or is out already, no reason is given, or the key was opened.
    """
    study = Path(study)
    protocol, _ = read_protocol(study)
    sealed = read_sealed(study)
    events = read_log(study, sealed.salt, required=sealed.logged)
    out = {event.rater for event in events if event.event == "dropped out"}
    whose = persons(study)
    names = [one.rater_id for one in protocol.raters if one.rater_id not in whose]
    if rater not in names or rater in out:
        found = f"the rater {rater!r}" + (", who is out already" if rater in out else "")
        raise InputError(found, f"one of {', '.join(name for name in names if name not in out)}", study)
    if not reason.strip():
        raise InputError("no reason", "the reason why a rater gives up, for the report", study)
    if any(event.event == "opened" for event in events):
        needed = "drop-outs recorded before the key is opened: afterwards they could be chosen by their answers"
        raise InputError("a study whose key was opened", needed, study)
    viewers = read_viewers(study, protocol)
    given = {}
    finished = []
    for one in (page for page in viewers if whose.get(page, page) in (*out, rater)):
        path = find_return(study, one)
        returned = None if path is None else read_return(path, protocol.study_id, viewers[one][0].secret)
        if whose.get(one, one) == rater:
            finished.append(returned is not None and returned.closed)
        given[one] = {rating.task_id for rating in returned.ratings} if returned is not None else set()
    if all(finished):
        raise InputError(f"a finished return of {rater}", "a rater who has not finished", study / "returned")
    log_event(study, sealed.salt, "dropped out", rater=rater, what=reason.strip())
    remain = [
        (entry, entry.rater_id)
        for entry in sealed.entries.values()
        if entry.kind == "real" and (entry.rater_id not in given or entry.task_id in given[entry.rater_id])
    ]
    return balance(remain, protocol)


def balance(remain: Sequence[tuple[KeyEntry, str]], protocol: StudyProtocol) -> str:
    """How even a design is by the ratings that remain of it, each with its rater, in words."""
    raters: Counter[tuple[str, ...]] = Counter()
    compared: Counter[str] = Counter()
    for entry, _ in remain:
        methods = {one for one in (entry.side_A_method, entry.side_B_method) if one}
        raters[(entry.case_id, *sorted(methods))] += 1
        compared.update(methods - {protocol.test} or methods)
    planned = protocol.tasks * protocol.raters_per_task
    whole = sum(count >= protocol.raters_per_task for count in raters.values())
    per = [compared[name] for name in protocol.baselines] or [compared[protocol.test]]
    return (
        f"{len(remain)} of {planned} ratings, {whole} of {protocol.tasks} tasks with all {protocol.raters_per_task} raters, "
        f"and {min(per)} to {max(per)} ratings a baseline"
    )
