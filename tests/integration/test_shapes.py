"""Every shape of docs/reading.md: what it is read as, agreeing with another reader on every pixel, or why it is not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import shapes_dicom
import shapes_folders
import shapes_tiff
from shape import Made, Shape

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide, read_z_stack
from srh_clinic.transforms import LoadSRH

SECTIONS = {
    "TIFF": shapes_tiff.SHAPES,
    "DICOM": shapes_dicom.SHAPES,
    "Folders, pairs and z-stacks": shapes_folders.SHAPES,
}
SHAPES = [shape for shapes in SECTIONS.values() for shape in shapes]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "reading.md"


def pixels(shape: Shape, made: Made) -> np.ndarray:
    """Everything that the reader gives."""
    if shape.z_stack:
        return np.stack([slide.read(0, 0, *slide.shape) for _, slide in read_z_stack(made.path, **made.options)])
    slide = read_slide(made.path, **made.options)
    return slide.read(0, 0, *slide.shape)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shape(shape: Shape, tmp_path: Path) -> None:
    made = shape.make(tmp_path)
    if shape.done in ("asked", "refused"):
        with pytest.raises(InputError, match=shape.says) as caught:
            pixels(shape, made)
        if not shape.z_stack:
            with pytest.raises(InputError, match=re.escape(str(caught.value))):
                LoadSRH(**made.options)(made.path)
        assert "\n" not in str(caught.value)
        return
    slide = read_z_stack(made.path, **made.options)[0].slide if shape.z_stack else read_slide(made.path, **made.options)
    read = pixels(shape, made)
    assert made.right is not None
    assert made.other is not None
    np.testing.assert_array_equal(made.right, made.other, err_msg="the other reader sees other pixels")
    np.testing.assert_array_equal(read, made.right)
    if not shape.z_stack:
        loaded = LoadSRH(**made.options)(made.path)
        np.testing.assert_array_equal(loaded.numpy(), made.right, err_msg="LoadSRH")
        assert loaded.meta["channel_order"] == slide.identity.channel_order
    assert slide.um_per_px == pytest.approx(made.um_per_px, rel=1e-6)
    assert slide.identity.channel_order.startswith("CH2 is channel")
    if shape.done == "noted":
        assert any(re.search(shape.says, note) for note in slide.notes), slide.notes
    else:
        assert slide.notes == ()


def test_names_are_used_once() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) >= 60


def table(shapes: list[Shape]) -> str:
    """The rows of one section of docs/reading.md."""
    head = "| shape | done | test |\n|---|---|---|\n"
    return head + "".join(f"| {shape.title} | {shape.done} | `test_shape[{shape.name}]` |\n" for shape in shapes)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_docs_have_every_shape(section: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert f"## {section}\n\n{table(SECTIONS[section])}" in text, "python tests/integration/test_shapes.py writes them anew"


def write_docs() -> None:
    """Put the tables of all sections into docs/reading.md."""
    text = DOCS.read_text(encoding="utf-8")
    for section, shapes in SECTIONS.items():
        before, _, rest = text.partition(f"## {section}\n")
        _, heading, after = rest.partition("\n## ")
        text = f"{before}## {section}\n\n{table(shapes)}{heading}{after}"
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_docs()
