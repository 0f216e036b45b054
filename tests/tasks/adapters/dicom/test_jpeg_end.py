"""A JPEG proves that it goes to the end of its image; a lossless one without being decoded a second time."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from mammo_tests import code_streams
from tasks.adapters.dicom.code_stream import read_code_stream
from tasks.adapters.dicom.jpeg_end import is_whole

SHAPE_PX = (120, 140)


def images() -> dict[str, NDArray[np.uint16]]:
    """Air at the end, tissue at the end, one value for many rows, and steps of 32768, which have a category of their own."""
    rng = np.random.default_rng(1)
    tissue_HW = rng.integers(1000, 1400, SHAPE_PX).astype(np.uint16)
    airy_HW, flat_HW = tissue_HW.copy(), tissue_HW.copy()
    airy_HW[60:] = 0
    airy_HW[:, 90:] = 0
    flat_HW[70:] = 700
    steps_HW = np.where(np.indices(SHAPE_PX).sum(axis=0) % 7 < 3, 32768, 0).astype(np.uint16)
    return {"air": airy_HW, "tissue": tissue_HW, "flat": flat_HW, "steps": steps_HW}


def never(_: bytes) -> NDArray[np.generic]:
    """A decoder that must not be asked."""
    raise AssertionError("decoded a second time")


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("name", images())
def test_a_whole_stream_is_not_decoded_again(name: str, predictor: int) -> None:
    """Each predictor, also where rows of air end the image, also without an end marker."""
    pixels_HW = images()[name]
    content = code_streams.jpeg_lossless(pixels_HW, predictor=predictor)
    for stream in (content, content[:-2], content[:-2] + b"\0", content + b"\0" * 9):
        found = read_code_stream(stream)
        assert found is not None and is_whole(found, pixels_HW, never)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("name", images())
def test_lost_data_are_missed(name: str, predictor: int) -> None:
    """Data that stop, or go on as zeros, and then an end marker: the image that is decoded is not whole."""
    pixels_HW = images()[name]
    content = code_streams.jpeg_lossless(pixels_HW, predictor=predictor)
    start = content.index(b"\xff\xda") + 20
    for share in (0.1, 0.5, 0.8):
        at = start + int(share * (len(content) - start))
        for damaged in (content[:at] + b"\xff\xd9", content[:at] + b"\0" * (len(content) - at - 2) + b"\xff\xd9"):
            found = read_code_stream(damaged)
            assert found is not None
            try:
                decoded_HW = imagecodecs.jpeg8_decode(found.content)
                is_found_whole = is_whole(found, decoded_HW, imagecodecs.jpeg8_decode)
            except RuntimeError:
                continue
            assert not is_found_whole or np.array_equal(decoded_HW, pixels_HW)


def test_restart_markers_are_decoded_again() -> None:
    """Where the last rows cannot be coded again the stream is decoded twice more, and proves itself all the same."""
    pixels_HW = images()["tissue"]
    content = code_streams.jpeg_lossless(pixels_HW)
    scan = content.index(b"\xff\xda")
    with_restarts = content[:scan] + b"\xff\xdd\x00\x04\x00\x00" + content[scan:]  # an interval of 0: none
    assert is_whole_when_decoded(with_restarts)
    other_interval = content[:scan] + b"\xff\xdd\x00\x04\x6d\x60" + content[scan:]  # longer than the image
    assert is_whole_when_decoded(other_interval)
    assert not is_whole_when_decoded(other_interval[:-400] + b"\xff\xd9")


def is_whole_when_decoded(content: bytes) -> bool:
    """Decodes a stream and asks."""
    found = read_code_stream(content)
    assert found is not None
    return is_whole(found, imagecodecs.jpeg8_decode(found.content), imagecodecs.jpeg8_decode)
