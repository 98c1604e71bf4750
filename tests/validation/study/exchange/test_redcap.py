"""The questions go out to REDCap, and what it sends back becomes a return."""

from __future__ import annotations

import csv
import io

import pytest
from rated import (
    BOX,
    POINT,
    SHOWN,
    assert_a_return_takes_them,
    rating,
    row,
    task,
)

from srh_clinic.errors import InputError
from srh_clinic.validation.study.exchange.redcap import COLUMNS, redcap_export, redcap_import, regions_text
from srh_clinic.validation.study.records import Region


def cells(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def labelled(dictionary, data) -> str:
    """The data as REDCap exports it with labels, in header and cells, with a field of its own and Excel's byte order mark."""
    fields = cells(dictionary)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field["Field Label"] for field in fields] + ["Complete?"])
    for record in cells(data):
        values = []
        for field in fields:
            choices = dict(part.split(", ") for part in field[COLUMNS[5]].split(" | ")) if field[COLUMNS[5]] else {}
            value = record[field[COLUMNS[0]]]
            values.append(choices.get(value, value))
        writer.writerow([*values, "Complete"])
    return "\ufeff" + text.getvalue()


class TestRedcap:
    def test_the_dictionary_has_the_18_columns_in_their_order(self, tmp_path):
        dictionary, _ = redcap_export([task(0)], tmp_path)
        assert dictionary.read_text().splitlines()[0] == (
            'Variable / Field Name,Form Name,Section Header,Field Type,Field Label,"Choices, Calculations, OR Slider Labels",'
            "Field Note,Text Validation Type OR Show Slider Number,Text Validation Min,Text Validation Max,Identifier?,"
            "Branching Logic (Show field only if...),Required Field?,Custom Alignment,Question Number (surveys only),"
            "Matrix Group Name,Matrix Ranking?,Field Annotation"
        )

    def test_the_record_comes_first_and_every_question_is_a_required_radio(self, tmp_path):
        one = task(0)
        fields = {field[COLUMNS[0]]: field for field in cells(redcap_export([one], tmp_path)[0])}
        assert next(iter(fields)) == "record_id"
        assert all(name == name.lower() for name in fields)
        assert {field["Form Name"] for field in fields.values()} == {"rating"}
        for question in one.questions:
            field = fields[question.lower()]
            assert (field["Field Type"], field["Required Field?"]) == ("radio", "y")
        assert fields["pref_quality"][COLUMNS[5]] == "1, A | 3, no difference | 2, B"
        assert fields["regions"][COLUMNS[11]] == (
            "([halluc_a] <> '' and [halluc_a] <> '1') or ([halluc_b] <> '' and [halluc_b] <> '1')"
        )

    def test_the_template_has_a_record_of_each_task_and_no_answer(self, tmp_path):
        dictionary, data = redcap_export([task(1), task(0), task(0, "r2")], tmp_path)
        records = cells(data)
        assert list(records[0]) == [field[COLUMNS[0]] for field in cells(dictionary)] + ["rating_complete"]
        assert [record["record_id"] for record in records] == ["r1-0", "r1-1", "r2-0"]
        filled = {name for record in records for name, value in record.items() if value}
        assert filled == {"record_id", "task_number", "rating_complete"}

    @pytest.mark.parametrize("labels", [False, True])
    def test_answers_become_a_return(self, tmp_path, labels):
        tasks = [task(0), task(1)]
        ratings = [rating(tasks[0], regions=(BOX, POINT), comment='a, "b"\nc'), rating(tasks[1]), rating(task(0, "r2"))]
        dictionary, data = redcap_export([*tasks, task(0, "r2")], tmp_path, ratings)
        if labels:
            data.write_text(labelled(dictionary, data), encoding="utf-8", newline="")
        rows = redcap_import(data, tasks)
        # REDCap keeps seconds, and no time of the answer.
        times = {"t_shown": SHOWN, "t_answered": SHOWN}
        assert rows == [row(tasks[0], comment='a, "b"\nc', **times), row(tasks[1], (), **times)]
        assert_a_return_takes_them(rows, tasks, tmp_path)

    def test_a_project_with_the_words_of_before_is_still_read(self, tmp_path):
        one = task(0)
        dictionary, data = redcap_export([one], tmp_path, [rating(one)])
        was = [
            ("Which image is more faithful to the image as scanned?", "Which image is more faithful to the low-quality one?"),
            ('"How sure are you, from 1 (a guess) to 5 (certain)?"', '"How confident are you (1 guess, 5 certain)?"'),
            *(
                (
                    f"Does {side} show structure that the image as scanned does not support?",
                    f"Does {side} show structure that the low-quality image does not support?",
                )
                for side in "AB"
            ),
            ("Which image do you think comes from the method under test?", "Which side do you take for the new method?"),
            (",no difference,", ",tie,"),
            (",definitely,possibly,", ",definite,possible,"),
        ]
        text = labelled(dictionary, data)
        for now, before in was:
            assert now in text
            text = text.replace(now, before)
        data.write_text(text, encoding="utf-8", newline="")
        assert redcap_import(data, [one]) == [row(one, (), t_answered=SHOWN)]

    def test_a_review_becomes_a_return(self, tmp_path):
        one = task(0, kind="review")
        answered = rating(one, regions=(BOX,))
        rows = redcap_import(redcap_export([one], tmp_path, [answered])[1], [one])
        assert rows == [row(one, (BOX,), t_answered=SHOWN)]
        assert_a_return_takes_them(rows, [one], tmp_path)

    def test_regions_are_written_as_a_rater_writes_them(self):
        regions = [Region(**BOX), Region(**POINT)]
        assert regions_text(regions) == "A box 10,20,30.5,40 added nucleus minor; B point 5,63.75 stripe or stitch major"

    @pytest.mark.parametrize(
        "text", ["A box 10,20,30,40 added nucleus", "C point 1,2 other minor", "A point 1,2,3,4 other minor"]
    )
    def test_a_region_that_is_not_understood_is_quoted(self, tmp_path, text):
        one = task(2)
        _, data = redcap_export([one], tmp_path, [rating(one)])
        table = cells(data)
        table[0]["regions"] = f"A point 1,2 other minor; {text}"
        with pytest.raises(InputError, match=f"a region '{text}' in task number 2; needed SIDE box LEFT,TOP"):
            redcap_import(rewritten(data, table), [one])

    def test_what_is_no_whole_answer_is_refused_by_the_tasks_number(self, tmp_path):
        tasks = [task(0), task(1)]
        _, data = redcap_export(tasks, tmp_path, [rating(one) for one in tasks])
        whole = cells(data)

        def refuses(sentence: str, table: list[dict[str, str]]) -> None:
            with pytest.raises(InputError, match=sentence):
                redcap_import(rewritten(data, table), tasks)

        refuses("no pref_quality in task number 0", [whole[0] | {"pref_quality": ""}, whole[1]])
        refuses(
            "halluc_B '4' in task number 1; needed one of none, possible, definite", [whole[0], whole[1] | {"halluc_b": "4"}]
        )
        refuses("no answer to task number 1", whole[:1])
        refuses("task number 0 twice", [whole[0], whole[0], whole[1]])
        refuses("a record r1-9, which is not a task of r1", [*whole, whole[0] | {"record_id": "r1-9"}])
        refuses("t_shown 'noon' in task number 0", [whole[0] | {"t_shown": "noon"}, whole[1]])
        refuses("a box of 9, 9, 8, 10 in task number 0", [whole[0] | {"regions": "A box 9,9,8,10 other minor"}, whole[1]])
        refuses("no column confidence", [{k: v for k, v in one.items() if k != "confidence"} for one in whole])

    @pytest.mark.parametrize("separator", [";", "\t", "|", "^"])
    def test_separators_that_redcap_offers_are_recognised(self, tmp_path, separator):
        one = task(0)
        _, data = redcap_export([one], tmp_path, [rating(one, regions=(BOX,))])
        text = io.StringIO()
        csv.writer(text, delimiter=separator).writerows(csv.reader(io.StringIO(data.read_text(), newline="")))
        data.write_text(text.getvalue())
        assert redcap_import(data, [one]) == [row(one, (BOX,), t_answered=SHOWN)]

    def test_another_separator_and_a_column_that_is_there_twice_are_named(self, tmp_path):
        one = task(0)
        _, data = redcap_export([one], tmp_path, [rating(one)])
        whole = data.read_text()
        data.write_text(whole.replace(",", "~"))
        with pytest.raises(InputError, match=r"a header of one column .* columns separated by ','"):
            redcap_import(data, [one])
        data.write_text(whole.replace("comment", "regions"))
        with pytest.raises(InputError, match="two columns regions; needed each column once"):
            redcap_import(data, [one])

    def test_a_ragged_or_unreadable_file_is_refused(self, tmp_path):
        _, data = redcap_export([task(0)], tmp_path, [rating(task(0))])
        data.write_text(f"{data.read_text()}r1-1,2\n")
        with pytest.raises(InputError, match="2 cells in row 3"):
            redcap_import(data, [task(0)])
        data.write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match="a file that is not readable CSV"):
            redcap_import(data, [task(0)])


def rewritten(path, table: list[dict[str, str]]):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


# What is unblinded


def test_no_cell_of_the_dictionary_is_a_formula(tmp_path):
    """Action tags begin with @, as formulas may; REDCap finds them anywhere in an annotation."""
    for path in redcap_export([task(0)], tmp_path):
        rows = [cell for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) for cell in row]
        assert not [cell for cell in rows if cell[:1] in ("=", "+", "-", "@") and cell[1:]]
        if path.name.startswith("dict"):
            assert sum("@READONLY" in cell for cell in rows) == 2
