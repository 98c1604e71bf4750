"""What raters said of sentinels is written by iMRMC's rules."""

from __future__ import annotations

import pytest
from rated import (
    SAME,
    answer,
    planted,
    task,
    unblinded,
)

from srh_clinic.errors import InputError
from srh_clinic.validation.study.exchange.imrmc import imrmc_export


class TestImrmc:
    ANSWERS = (
        answer(task(0), "a@0,64", planted("added", "B"), halluc_A="none", halluc_B="definite"),
        answer(task(1), "b", planted("removed", "A"), halluc_A="possible", halluc_B="definite"),
        answer(task(2), "c", SAME, halluc_A="none", halluc_B="possible"),
        answer(task(3), "d", {"kind": "sentinel", "sentinel": "blurred", "sentinel_side": "A"}),
        answer(task(4), "e"),
        answer(task(0, "r2"), "a@0,64", planted("added", "A"), halluc_A="none", halluc_B="none"),
        answer(task(1, "r2"), "c", SAME, halluc_A="definite", halluc_B="none"),
    )

    def test_the_file_has_truth_and_scores_of_the_sides_that_have_a_truth(self, tmp_path):
        path, _ = imrmc_export(unblinded(*self.ANSWERS), tmp_path)
        assert path.read_text() == (
            "Planted hallucinations of study study-1\nNR: 2\nN0: 1\nN1: 2\nNM: 1\nBEGIN DATA:\n"
            "-1,a@0%2C64=added@20_30_5.5,0,1\n-1,b=removed@20_30_5.5,0,1\n-1,c=same,0,0\n"
            "r1,a@0%2C64=added@20_30_5.5,rscd,2\nr1,b=removed@20_30_5.5,rscd,1\nr1,c=same,rscd,0\n"
            "r2,a@0%2C64=added@20_30_5.5,rscd,0\nr2,c=same,rscd,2\n"
        )

    def test_the_table_for_r_is_the_same_with_names(self, tmp_path):
        file, table = imrmc_export(unblinded(*self.ANSWERS), tmp_path)
        rows = file.read_text().split("BEGIN DATA:\n")[1].splitlines()
        named = [
            ",".join(["truth", row.split(",")[1], "truth", row.split(",")[3]]) if row.startswith("-1,") else row
            for row in rows
        ]
        assert table.read_text().splitlines() == ["readerID,caseID,modalityID,score", *named]

    def test_a_nucleus_planted_elsewhere_makes_another_case(self, tmp_path):
        other = answer(task(2, "r2"), "a@0,64", planted("added", "A", x=40.0))
        path, _ = imrmc_export(unblinded(*self.ANSWERS, other), tmp_path)
        assert "N1: 3\n" in path.read_text()

    def test_one_reader_scores_one_case_once(self, tmp_path):
        again = answer(task(9), "c", SAME, halluc_A="definite")
        path, _ = imrmc_export(unblinded(*self.ANSWERS, again), tmp_path)
        assert [line for line in path.read_text().splitlines() if line.startswith("r1,c=same")] == ["r1,c=same,rscd,0"]

    def test_without_both_truths_there_is_nothing_to_find(self, tmp_path):
        with pytest.raises(InputError, match="2 sentinels with a planted hallucination and 0 without"):
            imrmc_export(unblinded(*self.ANSWERS[:2]), tmp_path)
        with pytest.raises(InputError, match="0 sentinels with a planted hallucination and 1 without"):
            imrmc_export(unblinded(self.ANSWERS[2]), tmp_path)

    def test_names_that_stand_for_the_truth_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="a method called truth"):
            imrmc_export(unblinded(answer(task(0), "a", SAME | {"side_A_method": "truth"})), tmp_path)

    def test_a_study_that_does_not_ask_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no answer about hallucinations on side A of task number 0 of r1"):
            imrmc_export(unblinded(answer(task(0), "a", SAME, halluc_A=None)), tmp_path)
