import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from refinecam.data import DataModule
from refinecam.visualization import _wrapped, overlay, overlay_figure, picture_grid


def test_figures_have_a_cell_for_everything():
    images, masks = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    maps = {"one": torch.rand(2, 1, 8, 8), "two": torch.full((2, 1, 8, 8), torch.nan)}
    assert len(overlay_figure(images, maps, masks, ["a", "b"]).axes) == 2 * 4
    assert len(overlay_figure(images, maps).axes) == 2 * 3


@pytest.mark.parametrize(
    ("images", "maps", "message"),
    [
        (torch.rand(2, 8, 8, 3), {}, r"images: expected a float tensor \(N, 3, H, W\), got \(2, 8, 8, 3\)"),
        (torch.rand(3, 8, 8).numpy(), {}, r"images: expected a float tensor \(N, 3, H, W\), got ndarray"),
        (torch.rand(2, 3, 8, 8) - 2, {}, r"images: expected colors in \[0, 1\], got -.*images \* std \+ mean"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), 'maps: expected {"name": maps}, got a Tensor'),
        (torch.rand(2, 3, 8, 8), {"a": torch.rand(2, 8, 8)}, r"maps: a: .*use .unsqueeze\(1\)"),
        (torch.rand(2, 3, 8, 8), {"a": torch.rand(2, 1, 4, 4)}, r"maps: a: expected one map a pixel"),
    ],
)
def test_what_cannot_be_shown(images, maps, message):
    with pytest.raises(ValueError, match=message):
        overlay_figure(images, maps)


def test_colors_without_a_known_transform_are_stretched():
    images = torch.randn(2, 3, 8, 8)
    shown = DataModule().colors(images)
    assert (shown.amin((1, 2, 3)) == 0).all()
    torch.testing.assert_close(shown.amax((1, 2, 3)), torch.ones(2))
    assert torch.equal(DataModule().colors(shown), shown)


def test_overlay_is_a_share_of_the_grayed_picture_and_of_the_maps_color():
    generator = np.random.default_rng(0)
    picture, values = generator.integers(0, 256, (8, 9, 3), np.uint8), generator.random((8, 9))
    expected = 0.35 * picture.mean(2)[..., None] + 0.65 * 255 * matplotlib.colormaps["inferno"](values)[..., :3]
    np.testing.assert_allclose(overlay(picture, values), expected, atol=4)  # 256 colors
    np.testing.assert_array_equal(overlay(picture, values * np.nan), overlay(picture, values * 0))


def test_titles_break_at_the_joints_of_names():
    assert _wrapped("GradCAM++, stage -1", 27) == "GradCAM++,\nstage -1"
    assert (
        _wrapped("GradCAM++(activations='rectified'), stage -1", 27)
        == "GradCAM++\n(activations='rectified'),\nstage -1"
    )
    assert _wrapped("(a title that starts with a parenthesis)", 27) == "(a title that starts with a\nparenthesis)"


def test_grid_has_a_cell_for_each_picture_and_its_title_above():
    picture = np.random.default_rng(0).random((40, 20, 3))
    long = "RefineCAM(GradCAMPlusPlus), stage 0, product"
    figure = picture_grid([[("picture", picture), (long, picture)], [None, ("map", picture)]], "90.0%  cat\n 5.0%  dog")
    FigureCanvasAgg(figure).draw()
    axes = np.array(figure.axes).reshape(2, 2)
    assert "".join(axes[0, 1].get_title().split()) == long.replace(" ", "")
    assert [text.get_text() for text in axes[1, 0].texts] == ["90.0%  cat\n 5.0%  dog"]
    for axis in (axes[0, 0], axes[0, 1], axes[1, 1]):
        box = axis.title.get_window_extent()
        assert box.y1 <= figure.bbox.height
        assert box.y0 >= axis.get_window_extent().y1 - 1
        assert axis.get_window_extent().height > axis.get_window_extent().width
