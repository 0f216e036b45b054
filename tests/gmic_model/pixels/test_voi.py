"""Windows and VOI LUTs as tables: numbers from the standard's formulas, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.pixels.voi import VoiLut, Window, lut_table, window_table
from schemas.errors import DicomError


def test_a_linear_window_is_the_standard_s() -> None:
    """PS3.3 C.11.2.1.2.1 with centre 2048, width 4096 and 12 bits is the identity: ((x - 2047.5) / 4095 + 0.5) * 4095 = x."""
    table = window_table(Window(center=2048, width=4096), bits_stored=12)
    np.testing.assert_array_equal(table.output_V, np.arange(4096))
    assert table.bits == 12


def test_values_outside_a_window_are_black_or_white() -> None:
    """Centre 100, width 11: x <= 94.5 gives 0, x > 104.5 gives 255; 100 gives ((100 - 99.5) / 10 + 0.5) * 255 = 140.25."""
    output_V = window_table(Window(center=100, width=11), bits_stored=8).output_V
    assert (output_V[94], output_V[100], output_V[105]) == (0, 140, 255)


def test_a_window_of_width_1_is_a_threshold() -> None:
    """C.11.2.1.2.1 with centre 100 and width 1: x <= 99.5 gives 0, above the largest value."""
    output_V = window_table(Window(center=100, width=1), bits_stored=8).output_V
    assert (output_V[99], output_V[100]) == (0, 255)


def test_a_linear_exact_window_keeps_centre_and_width() -> None:
    """C.11.2.1.3.2: centre 100, width 10 maps 100 to half of 255 (127.5, to even 128) and 105 to 255."""
    output_V = window_table(Window(center=100, width=10, function="LINEAR_EXACT"), bits_stored=8).output_V
    assert (output_V[95], output_V[100], output_V[105]) == (0, 128, 255)


def test_a_sigmoid_is_half_at_its_centre() -> None:
    """C.11.2.1.3.1: 255 / (1 + exp(-4 (x - 100) / 40)) is 127.5 at 100 and 255 / (1 + e^-4) = 250.4 at 140."""
    output_V = window_table(Window(center=100, width=40, function="SIGMOID"), bits_stored=8).output_V
    assert (output_V[100], output_V[140]) == (128, 250)
    assert np.all(np.diff(output_V.astype(int)) >= 0)
    far_V = window_table(Window(center=60000, width=0.001, function="SIGMOID"), bits_stored=16).output_V
    assert (far_V[0], far_V[-1]) == (0, 65535)


def test_rescale_comes_before_the_window() -> None:
    """A value of 50 with slope 2 and intercept 1 is 101: where the window of 100 and 11 gives 165.75."""
    assert window_table(Window(center=100, width=11), bits_stored=8, slope=2, intercept=1).output_V[50] == 166


def test_a_lut_is_held_at_its_ends() -> None:
    """Three entries from 10 on: 9 and below take the first, 13 and above the last; the output has the LUT's bits."""
    table = lut_table(VoiLut(first_value=10, bits=10, entries_L=np.array([5, 600, 1023], np.uint16)), bits_stored=8)
    assert [int(table.output_V[value]) for value in (0, 10, 11, 12, 255)] == [5, 5, 600, 1023, 1023]
    assert (table.bits, table.largest) == (10, 1023)


def test_white_is_the_largest_entry_where_the_lut_claims_more_bits_than_it_has() -> None:
    """Entries to 4000 said to have 16 bits span 12, and white is 4000; entries of all their bits keep white at 2^bits - 1."""
    entries_L = np.arange(4001, dtype=np.uint16)
    table = lut_table(VoiLut(first_value=0, bits=16, entries_L=entries_L), bits_stored=12)
    assert (table.bits, table.largest) == (12, 4000)
    whole = lut_table(VoiLut(first_value=0, bits=12, entries_L=entries_L), bits_stored=12)
    assert (whole.bits, whole.largest) == (12, 4095)
    np.testing.assert_array_equal(table.output_V, whole.output_V)


def test_a_first_value_below_zero_is_read_from_files_that_do_not_say_which_values_are_signed() -> None:
    """64512 is -1024 where rescaled values run from -1024 to 3071."""
    entries_L = np.arange(4096, dtype=np.uint16)
    table = lut_table(VoiLut(first_value=64512, bits=12, entries_L=entries_L), bits_stored=12, intercept=-1024)
    np.testing.assert_array_equal(table.output_V, np.arange(4096))


@pytest.mark.parametrize(
    "window",
    [
        Window(center=100, width=0.5),
        Window(center=100, width=0, function="SIGMOID"),
        Window(center=float("nan"), width=10),
        Window(center=1, width=10, function="CUBIC"),
        Window(center=float("inf"), width=10),
    ],
)
def test_a_window_that_is_none_is_refused(window: Window) -> None:
    """A width below 1 (LINEAR) or of 0, another function, a number that is not finite."""
    with pytest.raises(DicomError, match=r"preprocess\.voi"):
        window_table(window, bits_stored=12)


@pytest.mark.parametrize(
    "lut",
    [
        VoiLut(first_value=0, bits=12, entries_L=np.array([], np.uint16)),
        VoiLut(first_value=0, bits=12, entries_L=np.array([4096], np.uint16)),
        VoiLut(first_value=0, bits=24, entries_L=np.array([1], np.uint16)),
    ],
)
def test_a_lut_that_is_none_is_refused(lut: VoiLut) -> None:
    """No entries, entries beyond their bits, more than 16 bits."""
    with pytest.raises(DicomError, match=r"preprocess\.voi"):
        lut_table(lut, bits_stored=12)
