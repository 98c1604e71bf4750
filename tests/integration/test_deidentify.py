"""What leaves without a name holds none of its source's texts, in no byte, and is a slide all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pydicom
import pytest
from planted import PLANTED, leaked, plant
from validators import complaints, needs_validators

from srh_clinic.errors import InputError
from srh_clinic.integration import convert, deidentify, read_slide
from srh_clinic.integration.deidentify import Pseudonyms, found_in, nameless, words_of
from srh_clinic.slide import ArraySlide

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def named(tmp_path, slide, write):
    """The folder of a slide whose header names somebody in more than 35 places; its own name does too."""
    folder = tmp_path / "zimmerqvist-case"
    for file in write(slide, folder):
        plant(file)
    assert len(PLANTED) >= 35
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    assert all(value.encode() in content for value in PLANTED.values())
    return folder


@pytest.mark.parametrize("name", ["out", "out.dcm", "out.ome.tif", "out.ome.zarr"])
def test_nothing_of_whom_it_shows_is_in_any_byte(tmp_path, named, counts, name):
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    (out,) = convert(named, tmp_path / name, pseudonyms=Pseudonyms(SECRET))
    files = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    assert leaked(files) == []
    if not name.endswith("zarr"):
        np.testing.assert_array_equal(read_slide(out).read(0, 0, *counts.shape[1:]), counts)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([named.name, name])


def test_the_search_finds_what_a_writer_would_leave(tmp_path, named, slide, monkeypatch):
    """A writer that copied a source's texts would be stopped, and nothing of it stays."""
    monkeypatch.setattr(deidentify, "nameless", lambda slide, pseudonyms=None: slide)
    with pytest.raises(InputError, match="a text of the source"):
        convert(named, tmp_path / "out.dcm", pseudonyms=Pseudonyms(SECRET))
    assert [path.name for path in tmp_path.iterdir()] == [named.name]


def test_the_search_looks_at_every_place(named):
    words = words_of(read_slide(named))
    for place, value in PLANTED.items():
        if place not in ("SourceApplicationEntityTitle",):  # of the file, which is not copied; not of the data set
            assert value in words, place
    assert {"Zimmerqvist", "Ottoline", "Quillfeather", "zimmerqvist-case"} <= words


def test_the_search_knows_names_of_files_and_private_terms(tmp_path, slide, write):
    for file in write(slide, tmp_path / "in"):
        header = pydicom.dcmread(file)
        block = header.private_block(0x0099, "VENDOR", create=True)
        block.add_new(1, "CS", "WARD_NINE")
        block.add_new(2, "OB", b"Quillfeather")
        header.save_as(file.with_name(f"zimmerqvist-{file.name}"))
        file.unlink()
    assert {"zimmerqvist-SRS2845", "zimmerqvist-SRS2930", "WARD_NINE", "Quillfeather"} <= words_of(read_slide(tmp_path / "in"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le"])
def test_a_word_is_found_in_other_letters_and_encodings(tmp_path, encoding):
    file = tmp_path / "a.json"
    file.write_bytes("x MÜLLER-ÖDÖN y".encode(encoding))
    assert found_in([file], {"Müller-Ödön", "Meier"}) == {"Müller-Ödön"}


def test_a_number_is_not_found_within_a_longer_one(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("2.25.120190723456")
    assert found_in([file], {"20190723"}) == set()
    file.write_text("on 20190723.")
    assert found_in([file], {"20190723"}) == {"20190723"}


class TestTheSlide:
    def test_it_says_that_it_is_deidentified(self, tmp_path, named):
        (out,) = convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET))
        for file in out.iterdir():
            header = pydicom.dcmread(file)
            assert header.PatientIdentityRemoved == "YES"
            assert header.LongitudinalTemporalInformationModified == "REMOVED"
            assert [item.CodeValue for item in header.DeidentificationMethodCodeSequence] == ["113100"]
            assert header.StudyDate == header.ContentDate == "20000101"

    def test_dates_are_shifted_where_that_is_asked(self, tmp_path, named):
        (out,) = convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET, -100))
        header = pydicom.dcmread(next(out.iterdir()))
        moved = datetime.strptime(header.AcquisitionDateTime[:8], "%Y%m%d")
        assert (datetime(2019, 7, 24) - moved).days == 100
        assert header.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [item.CodeValue for item in header.DeidentificationMethodCodeSequence] == ["113100", "113107"]
        assert leaked(out.iterdir()) == []

    def test_uids_and_pseudonyms_are_those_of_the_case_with_one_secret_and_others_with_another(self, tmp_path, named):
        def told(name, pseudonyms):
            (out,) = convert(named, tmp_path / name, pseudonyms=pseudonyms)
            headers = [pydicom.dcmread(file) for file in sorted(out.iterdir())]
            one = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "ContainerIdentifier")
            for keyword in one:
                assert len({str(header[keyword].value) for header in headers}) == 1
            return [str(headers[0][keyword].value) for keyword in one] + [header.SOPInstanceUID for header in headers]

        first = told("first", Pseudonyms(SECRET))
        assert told("again", Pseudonyms(SECRET)) == first
        assert not set(told("fresh", Pseudonyms.fresh())) & set(first)
        assert not set(first) & set(PLANTED.values())
        assert first[3]  # a pseudonym, not nothing

    def test_two_slides_of_a_patient_stay_two_slides_of_a_patient(self, tmp_path, named, counts, slide, write):
        other = tmp_path / "other"
        for file in write(type(slide)(counts // 2, 0.47), other):
            plant(file, "8")
        first, second = (
            pydicom.dcmread(next(convert(folder, tmp_path / f"{folder.name}-out", pseudonyms=Pseudonyms(SECRET))[0].iterdir()))
            for folder in (named, other)
        )
        assert (first.PatientID, first.StudyInstanceUID) == (second.PatientID, second.StudyInstanceUID)
        assert first.SeriesInstanceUID != second.SeriesInstanceUID

    def test_equal_numbers_of_two_hospitals_and_of_two_patients_are_told_apart(self, slide):
        def told(patient, issuer, specimen):
            header = pydicom.Dataset()
            header.IssuerOfPatientID = issuer
            said = replace(slide.identity, patient_id=patient, specimen_id=specimen, attributes={"headers": (header,)})
            found = nameless(replace(slide, identity=said), Pseudonyms(SECRET)).identity
            return found.patient_id, found.specimen_id

        assert told("P1", "A", "A1") == told("P1", "A", "A1")
        others = [("P1", "A", "A1"), ("P1", "B", "A1"), ("P1", "", "A1"), ("P2", "A", "A1")]
        assert len({name for one in others for name in told(*one)}) == 8
        assert told("P1", "A", "A2")[0] == told("P1", "A", "A1")[0]

    def test_lossy_compression_stays_marked(self, tmp_path, named):
        for file in named.iterdir():
            header = pydicom.dcmread(file)
            header.LossyImageCompression, header.LossyImageCompressionRatio = "01", 12
            header.LossyImageCompressionMethod = ["ISO_15444_1"]
            header.save_as(file)
        (out,) = convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET))
        header = pydicom.dcmread(next(out.iterdir()))
        assert (header.LossyImageCompression, header.LossyImageCompressionRatio) == ("01", 12)
        assert header.LossyImageCompressionMethod == "ISO_15444_1"

    @needs_validators
    def test_dciodvfy_and_dcentvfy_find_nothing(self, tmp_path, named):
        (out,) = convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET, 30))
        for file in out.iterdir():
            assert complaints("dciodvfy", file) == []
        assert complaints("dcentvfy", *out.iterdir()) == []


class TestWhatIsNoTrace:
    """Sentences and numbers that our writer says of any slide are not taken for texts of the source."""

    def test_a_slide_that_was_deidentified_is_once_more(self, tmp_path, slide, write):
        said = replace(slide, notes=("stretched from a full scale of 4096 (x16)", "by Quillfeather"))
        write(said, tmp_path / "0")
        for number, days in enumerate((-77, 55, None, None, 9)):
            convert(tmp_path / str(number), tmp_path / str(number + 1), pseudonyms=Pseudonyms(bytes([number] * 16), days))
        header = pydicom.dcmread(tmp_path / "5" / "SRS2845.dcm")
        assert header.StudyDate == "20000101"  # it was taken out, and is not moved
        assert header.ImageComments.endswith("(x16); a note of the reading was left out, since it may name somebody")

    def test_a_number_of_its_pixels(self, tmp_path, write, edit):
        for file in write(ArraySlide(np.zeros((2, 40, 1234), dtype=np.uint16), 0.47), tmp_path / "in"):
            edit(file, StudyID="1234")
        convert(tmp_path / "in", tmp_path / "out.ome.tif", pseudonyms=Pseudonyms(SECRET))


class TestRefused:
    @pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "SpecimenLabelInImage"])
    def test_pixels_that_may_name_the_patient(self, tmp_path, named, edit, keyword):
        for file in named.iterdir():
            edit(file, **{keyword: "YES"})
        with pytest.raises(InputError, match=keyword):
            convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET))

    def test_a_name_that_is_taken(self, tmp_path, named):
        (tmp_path / "out").mkdir()
        with pytest.raises(InputError, match="a name that is taken"):
            convert(named, tmp_path / "out", pseudonyms=Pseudonyms(SECRET))

    @pytest.mark.parametrize(
        ("secret", "days", "sentence"),
        [(b"short", None, "a secret of 5 bytes"), (SECRET, 0, "shifted by 0 days"), (SECRET, 99_999, "shifted by 99999")],
    )
    def test_what_is_no_secret_or_no_shift(self, secret, days, sentence):
        with pytest.raises(InputError, match=sentence):
            Pseudonyms(secret, days)


def test_of_notes_and_the_order_of_channels_only_what_is_known_stays(slide):
    said = replace(
        slide,
        notes=("stretched from a full scale of 4096 (x16)", "lossy compression", "zimmerqvist.dcm: 1 x 1 pixels"),
        identity=replace(slide.identity, channel_order="CH2 is channel 2, CH3 is channel 1: it is called Zimmerqvist"),
    )
    found = nameless(said)
    assert found.notes[:2] == said.notes[:2]
    assert "zimmerqvist" not in str(found.notes)
    assert found.identity.channel_order == "CH2 is channel 2, CH3 is channel 1"
    assert (found.identity.patient_id, found.identity.specimen_id, found.identity.source) == ("", "", "")
