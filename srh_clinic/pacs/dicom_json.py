"""Datasets as DICOM JSON (PS3.18 F): attributes by keyword out of plain dictionaries, and into them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from srh_clinic.errors import InputError
from srh_clinic.files import parsed_json

MEDIA_TYPE = "application/dicom+json"

Json = dict[str, Any]
"""One dataset: elements by eight hexadecimal digits."""


@cache
def tag_of(keyword: str) -> str:
    """``"00080018"`` of SOPInstanceUID."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no attribute {keyword}")
    return f"{tag:08X}"


def values(dataset: Json, keyword: str) -> list[Any]:
    """The values of an attribute, items of a sequence too; none where it is absent, empty or not what DICOM JSON says."""
    element = dataset.get(tag_of(keyword))
    found = element.get("Value") if isinstance(element, dict) else None
    return [value for value in found if value is not None] if isinstance(found, list) else []


def text(dataset: Json, keyword: str) -> str:
    """The first value of an attribute as text; empty where there is none."""
    found = values(dataset, keyword)
    return "" if not found or isinstance(found[0], dict | list) else str(found[0])


def items(dataset: Json, keyword: str) -> list[Json]:
    """The items of a sequence."""
    return [item for item in values(dataset, keyword) if isinstance(item, dict)]


def dataset_of(**attributes: Any) -> Json:
    """A dataset of attributes by keyword: a value, a list of values, or None for one without; items are datasets."""
    return dict(sorted(_element(keyword, value) for keyword, value in attributes.items()))


def _element(keyword: str, value: Any) -> tuple[str, Json]:
    found = value if isinstance(value, list) else [] if value is None else [value]
    vr = dictionary_VR(keyword)
    return tag_of(keyword), {"vr": vr, "Value": found} if found else {"vr": vr}


def code_item(value: str, scheme: str, meaning: str) -> Json:
    """An item of a code sequence."""
    return dataset_of(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def datasets_in(answer: bytes, of_what: str, where: str) -> list[Json]:
    """The datasets of an answer: an array of them, or one that stands alone, as some servers send it; none of an empty one.

    Raises
    ------
    InputError
        When it is no DICOM JSON.
    """
    if not answer.strip():
        return []
    try:
        said = parsed_json(answer)
    except ValueError as error:
        raise InputError(f"an answer to {of_what} that is no JSON", f"a server that answers {MEDIA_TYPE}", where) from error
    found = said if isinstance(said, list) else [said]
    if not all(isinstance(one, dict) for one in found):
        raise InputError(f"an answer to {of_what} that is no DICOM JSON", f"a server that answers {MEDIA_TYPE}", where)
    return found


def union(datasets: Iterable[Json]) -> Json:
    """The attributes of several datasets; of one that stands in several, the last."""
    return {tag: element for dataset in datasets for tag, element in dataset.items()}
