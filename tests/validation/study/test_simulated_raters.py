"""Simulated raters answer as real ones do."""

from __future__ import annotations

from analysed import TRUTH
from simulated_study import simulated_answers, simulated_study

from srh_clinic.validation.study.returns import read_return, require_whole, write_return
from srh_clinic.validation.study.simulated_raters import simulated_ratings


def test_simulated_answers_return_as_the_viewer_writes_them(tmp_path):
    protocol, tasks, key = simulated_study(TRUTH, images=20, repeats=2, sentinels=1)
    rows = simulated_ratings(tasks, key, TRUTH, protocol.test, seed=5)
    assert rows == simulated_ratings(tasks, key, TRUTH, protocol.test, seed=5)
    assert rows != simulated_ratings(tasks, key, TRUTH, protocol.test, seed=6)
    answers = simulated_answers(tasks, key, TRUTH, protocol.test, seed=5)
    for rater, own in rows.items():
        path = tmp_path / f"{rater}.jsonl"
        path.write_text(write_return(own, protocol.study_id, rater))
        returned = read_return(path, protocol.study_id)
        require_whole(returned, [task.task_id for task in tasks if task.rater_id == rater], path)
        said = [one.rating.pref_quality for one in answers if one.rating.rater_id == rater]
        assert [one.pref_quality for one in returned.ratings] == said
