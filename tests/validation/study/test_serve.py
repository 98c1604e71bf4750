"""The server of a study: who is answered, what is served, and which returns are saved."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium_pipe import Chromium, begun_chromium

from srh_clinic.errors import InputError
from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import Rater, StudyProtocol
from srh_clinic.validation.study.returns import read_return, require_whole, write_return
from srh_clinic.validation.study.serve import LARGEST_RETURN, StudyServer, serve_study
from srh_clinic.validation.study.viewer import Page, write_viewer

STUDY, TASKS = "trial-1", 3
TITLE = "A trial <script>"


@pytest.fixture
def study(noise_tasks: Callable[..., Any], tmp_path: Path) -> Path:
    """The folder of a study of two raters, as an export leaves it."""
    protocol = StudyProtocol(
        study_id=STUDY,
        title=TITLE,
        kind="preference",
        preset="",
        date="2025-01-01",
        test="rscd",
        baselines=("median",),
        raters=(Rater(rater_id="p1"), Rater(rater_id="p2")),
        images=TASKS,
        tasks=TASKS,
        raters_per_task=2,
        repeats=0,
        sentinels={},
        questions=QUESTIONS["preference"],
        sample_size={},
        imbalance={},
        sources="noise",
    )
    folder = tmp_path / "study"
    for rater in protocol.raters:
        tasks, images = noise_tasks(TASKS, study=STUDY, rater=rater.rater_id)
        write_viewer(folder / "public" / rater.rater_id / "viewer.html", Page(TITLE, "preference", ""), tasks, images)
    (folder / "public" / "protocol.json").write_text(protocol.model_dump_json())
    (folder / "sealed").mkdir()
    (folder / "sealed" / "key.json").write_text("the key")
    return folder


@pytest.fixture
def server(study: Path) -> Iterator[StudyServer]:
    with serve_study(study) as running:
        yield running


@pytest.fixture
def lines(noise_tasks: Callable[..., Any]) -> list[bytes]:
    """A whole return of p1, line by line."""
    return returned(noise_tasks, "p1").splitlines(keepends=True)


def returned(noise_tasks: Callable[..., Any], rater: str, comment: str = "", study: str = STUDY) -> bytes:
    tasks, _ = noise_tasks(TASKS, study=study, rater=rater)
    sides = {"pref_quality": "A", "pref_fidelity": "tie", "halluc_A": "none", "halluc_B": "none", "method_guess": "unsure"}
    said = {**sides, "confidence": 3, "comment": comment, "t_shown": 1, "t_answered": 2}
    ratings = [{"seq": task.seq, "task_id": task.task_id, **said} for task in tasks]
    return write_return(ratings, study, rater).encode()


def port_of(server: StudyServer) -> int:
    return int(server.url.rstrip("/").rpartition(":")[2])


def ask(server: StudyServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Ask as any program may: the path goes out as it stands, and headers replace what a browser would send."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        if body is not None and "Content_Length" not in headers:
            headers["Content_Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_raters_viewers_are_listed_and_served_as_they_are(server: StudyServer, study: Path) -> None:
    status, index = ask(server, "GET", "/")
    assert status == 200
    assert b'href="/public/p1/viewer.html"' in index
    assert b"A trial &lt;script&gt;" in index
    assert ask(server, "GET", "/public/p2/viewer.html") == (200, (study / "public" / "p2" / "viewer.html").read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/sealed/key.json",
            "/public/../sealed/key.json",
            "/public/p1/../../sealed/key.json",
            "/public/%2e%2e/sealed/key.json",
        ),
        *("//sealed/key.json", "/public/..%2fsealed%2fkey.json", "/public/p1/viewer.html/../../../sealed/key.json"),
        *(
            "/public/protocol.json",
            "/public/p1/",
            "/public/p3/viewer.html",
            "/returned/p1",
            "/returned/p1.jsonl",
            "/public/p1/viewer.html?x",
        ),
    ],
)
def test_nothing_else_is_served(server: StudyServer, study: Path, lines: list[bytes], path: str) -> None:
    assert ask(server, "PUT", "/returned/p1", lines[0])[0] == 200
    assert ask(server, "GET", path) == (404, b"Nothing here.")


def test_a_viewer_that_is_a_link_to_elsewhere_is_not_served(server: StudyServer, study: Path) -> None:
    viewer = study / "public" / "p1" / "viewer.html"
    viewer.unlink()
    viewer.symlink_to(study / "sealed" / "key.json")
    assert ask(server, "GET", "/public/p1/viewer.html")[0] == 404


def test_only_the_loopback_interface_is_listened_to(server: StudyServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        # The whole network 127.0.0.0/8 is this machine; a server on all interfaces would answer on this address too.
        assert other.connect_ex(("127.0.0.2", port_of(server))) != 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_is_not_answered(
    server: StudyServer, study: Path, lines: list[bytes], headers: dict[str, str]
) -> None:
    said = {name: value.format(port=port_of(server)) for name, value in headers.items()}
    assert ask(server, "GET", "/", **said)[0] == 403
    assert ask(server, "PUT", "/returned/p1", lines[0], **said)[0] == 403
    assert not (study / "returned").exists()


def test_a_return_is_saved_as_it_grows(server: StudyServer, study: Path, lines: list[bytes]) -> None:
    path = study / "returned" / "p1.jsonl"
    assert ask(server, "PUT", "/returned/p1", b"") == (200, b"Saved.")
    assert not path.exists()
    for count in range(1, len(lines) + 1):
        for method in ("PUT", "POST"):  # the second changes nothing
            assert ask(server, method, "/returned/p1", b"".join(lines[:count]))[0] == 200
        assert path.read_bytes() == b"".join(lines[:count])
    assert [one.name for one in path.parent.iterdir()] == ["p1.jsonl"]
    assert read_return(path, STUDY).closed
    index = ask(server, "GET", "/")[1]
    assert b"finished" in index
    assert b"0 answers saved" in index


def test_a_return_that_is_shorter_or_another_is_answered_with_what_is_there(
    server: StudyServer, study: Path, lines: list[bytes], noise_tasks: Callable[..., Any]
) -> None:
    held = b"".join(lines[:2])
    assert ask(server, "PUT", "/returned/p1", held)[0] == 200
    fork = returned(noise_tasks, "p1", comment="changed my mind")
    for other in (b"", lines[0], fork, fork[: fork.index(b"\n") + 1]):
        assert ask(server, "PUT", "/returned/p1", other) == (409, held)
    assert (study / "returned" / "p1.jsonl").read_bytes() == held


def test_what_is_no_return_of_this_rater_is_not_saved(
    server: StudyServer, study: Path, lines: list[bytes], noise_tasks: Callable[..., Any]
) -> None:
    wrong = {
        "answers of p2": returned(noise_tasks, "p2"),
        "a return of the study other": returned(noise_tasks, "p1", study="other"),
        "line 2, which does not follow line 1": lines[0] + lines[2],
        "line 1, which is not an answer": b"{}\n",
        "a last line without an end": lines[0].rstrip(),
        "a file that is not readable text": b"\xff\n",
    }
    for said, sent in wrong.items():
        status, answer = ask(server, "PUT", "/returned/p1", sent)
        assert status == 422
        assert answer.decode().startswith(f"Found {said}")
    assert ask(server, "PUT", "/returned/p3", lines[0])[0] == 404
    assert ask(server, "PUT", "/returned/../p1", lines[0])[0] == 404
    assert ask(server, "PUT", "/returned/p1", b"", Content_Length=str(LARGEST_RETURN + 1))[0] == 413
    assert ask(server, "PUT", "/returned/p1", b"", Content_Length="-1")[0] == 411
    assert not (study / "returned").exists()


def test_an_answer_that_is_none_is_refused_when_it_comes(
    server: StudyServer, study: Path, noise_tasks: Callable[..., Any]
) -> None:
    box = {"side": "A", "shape": "box", "xy": [0, 0, 64, 65], "category": "other", "severity": "minor"}
    wrong = {
        "no pref_quality in task number 0": {"pref_quality": None},
        "task number 0 answered before it was shown": {"t_answered": 0},
        "a box of 0, 0, 64, 65 in task number 0": {"regions": [box]},
    }
    for said, change in wrong.items():
        row = {**json.loads(returned(noise_tasks, "p1").splitlines()[0]), **change}
        sent = write_return([{k: v for k, v in row.items() if k != "prev_hash"}], STUDY, "p1", closed=False).encode()
        status, answer = ask(server, "PUT", "/returned/p1", sent)
        assert (status, answer.decode().startswith(f"Found {said}")) == (422, True), answer
    assert not (study / "returned").exists()


def test_a_second_window_is_told_by_the_server(server: StudyServer, lines: list[bytes]) -> None:
    assert ask(server, "PUT", "/returned/p1", lines[0], X_Window="one") == (200, b"Saved.")
    assert ask(server, "PUT", "/returned/p1", lines[0], X_Window="one") == (200, b"Saved.")
    status, said = ask(server, "PUT", "/returned/p1", lines[0], X_Window="two")
    assert (status, b"Another window or browser" in said) == (200, True)
    assert ask(server, "PUT", "/returned/p2", b"", X_Window="one")[1] == b"Saved."


def test_a_return_that_cannot_be_written_is_said_and_leaves_what_was_there(
    server: StudyServer, study: Path, lines: list[bytes]
) -> None:
    (study / "returned" / "p1.jsonl").mkdir(parents=True)
    status, answer = ask(server, "PUT", "/returned/p1", lines[0])
    assert (status, b"directory" in answer.lower()) == (500, True)
    (study / "returned" / "p1.jsonl").rmdir()
    assert ask(server, "PUT", "/returned/p1", lines[0])[0] == 200


def test_a_folder_that_is_no_study_and_a_port_that_is_taken_are_refused(
    study: Path, server: StudyServer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"protocol\.json: found no such file"):
        serve_study(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"port \d+, which cannot be used"):
        serve_study(study, port_of(server))
    (study / "public" / "p2" / "viewer.html").unlink()
    with pytest.raises(InputError, match="no viewer"):
        serve_study(study)
    (study / "public" / "protocol.json").write_text("{}")
    with pytest.raises(InputError, match="study_id: Field required"):
        serve_study(study)


def test_a_server_that_is_closed_answers_no_more(study: Path) -> None:
    server = serve_study(study)
    server.close()
    server.wait()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", "/")


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    """One that reaches this machine and nothing else."""
    yield from begun_chromium(tmp_path / "profile", reaches=", EXCLUDE 127.0.0.1")


def test_a_page_from_the_server_saves_every_answer_and_goes_on_in_another_browser(
    server: StudyServer, study: Path, new_rater: Callable[[], Any], noise_tasks: Callable[..., Any]
) -> None:
    path = study / "returned" / "p1.jsonl"
    rater = new_rater()
    rater.begin(f"{server.url}public/p1/viewer.html")
    assert "this workstation’s own server" in rater.text("#who")
    rater.open_task()
    rater.press("1", "2", "3", "1", "1", "1")
    rater.commit()
    rater.until("window.srhStudy.state().server === 'saved'")
    assert len(read_return(path, STUDY).ratings) == 1

    elsewhere = new_rater()
    elsewhere.begin(f"{server.url}public/p1/viewer.html")
    assert "Continue with task 2 of 3" in elsewhere.text("#begin")
    elsewhere.open_task()
    for _ in range(2):
        elsewhere.press("1", "2", "3", "1", "1", "1")
        elsewhere.commit()
    # Its first answer may be saved while the second is on its way.
    elsewhere.until("!document.getElementById('arrived').hidden")
    whole = read_return(path, STUDY)
    require_whole(whole, [task.task_id for task in noise_tasks(TASKS, study=STUDY, rater="p1")[0]], path)
    assert elsewhere.text("#receipt") == whole.receipt
    assert "saved on this workstation" in elsewhere.text("#done")

    # The first browser has fallen behind: what it answers now is not taken, and it says so.
    rater.press("3", "2", "3", "1", "1", "1")
    rater.commit()
    rater.until("window.srhStudy.state().server === 'failed'")
    assert "other answers" in rater.text("#trouble")
    assert read_return(path, STUDY) == whole
    # Chromium reports the answer 409, by which the second browser got the first one's answer, and nothing else.
    assert ["Conflict" in said for said in elsewhere.said] == [True]


def test_the_first_page_states_what_may_run_on_it_and_errors_are_no_pages(server: StudyServer) -> None:
    page = ask(server, "GET", "/")[1].decode()
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "unsafe-inline" not in page
    assert "A trial &lt;script&gt;" in page
    for method, path in (("BREW", "/"), ("DELETE", "/"), ("GET", "/" + "x" * 70_000)):
        status, said = ask(server, method, path)
        assert status >= 400
        assert b"<" not in said
