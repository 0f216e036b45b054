"""Where a crop is cut to its canvas: between whole pixels of the source, and never beyond the crop."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gmic_model.pixels.canvas import Kept, cut_geometry
from gmic_model.pixels.window import working_shape_px
from schemas.exam import ViewGeometry, ViewPosition


@settings(max_examples=200, deadline=None)
@given(
    source=st.integers(20, 400),
    canvas=st.integers(10, 120),
    center=st.integers(-50, 500),
    scale=st.sampled_from([1.0, 0.5, 0.73, 1.3, 2.0]),
    is_flipped=st.booleans(),
)
def test_the_geometry_says_what_is_kept(source: int, canvas: int, center: int, scale: float, is_flipped: bool) -> None:
    """The kept part fits on the canvas, lies in the crop, and has the shape and place that its geometry implies."""
    whole = max(1, round(source * scale))
    kept = Kept.of(center, canvas, whole, source, scale)
    length = kept.of_crop.stop - kept.of_crop.start
    assert kept.of_crop.start >= 0 and kept.of_crop.stop <= whole and length <= max(canvas, 1)
    assert 0 <= kept.start < kept.stop <= source and abs(kept.start * scale - kept.of_crop.start) <= max(1.0, scale)
    if whole <= canvas:
        assert (kept.start, kept.stop, length) == (0, source, whole)
    geometry = ViewGeometry(
        source_shape_px=(source + 5, source + 9), crop_box_px=(2, 2 + source, 4, 4 + source), is_flipped=is_flipped,
        scale=scale, best_center_px=(center, center), window_px=(8, 8), view_position=ViewPosition.CC,
    )  # fmt: skip
    cut = cut_geometry(geometry, kept, kept)
    assert working_shape_px(cut) == (length, length)
    assert cut.best_center_px == (center - kept.of_crop.start, center - kept.of_crop.start)
    across = (4 + source - kept.stop, 4 + source - kept.start) if is_flipped else (4 + kept.start, 4 + kept.stop)
    assert cut.crop_box_px == (2 + kept.start, 2 + kept.stop, *across)
    assert cut_geometry(replace(geometry, quarter_turns=0), Kept.of(0, whole, whole, source, scale), kept).scale == scale
