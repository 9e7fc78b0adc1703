"""Pictures of factors: what each draws, in the data's own form."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxnmf
from jaxnmf.datasets.base import Dataset

W = np.array([[1.0, 0, 2], [0, 1, 2], [0, 0, 2], [3, 0, 2]])
H = np.array([[1.0, 0, 0, 0, 0, 4], [0, 2, 0, 0, 2, 0], [5, 5, 5, 5, 5, 10]])
ORDER = [2, 0, 1]  # by ‖w‖ ‖h‖


def dataset(kind: str, **attributes: Any) -> Dataset:
    return Dataset(
        name="x", V=W @ H, kind=kind, about="", source="", licence="", **attributes
    )


def shown(axes: Any) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def bars(axes: Any) -> dict[str, float]:
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    return dict(zip(names, (bar.get_width() for bar in axes.patches), strict=True))


def test_rows_of_h_are_images_strongest_first():
    data = dataset("images", column_image=(2, 3))
    for found in (
        jaxnmf.plots.components((W, H), data),
        jaxnmf.plots.components((W, H), image=(2, 3)),
    ):
        assert found.shape == (3,)
        assert [axes.get_title() for axes in found] == ["2", "0", "1"]
        for axes, k in zip(found, ORDER, strict=True):
            np.testing.assert_array_equal(shown(axes), H[k].reshape(2, 3))
            assert axes.images[0].get_clim() == (0, H[k].max())
        assert found[0].figure is found[2].figure


def test_columns_of_w_are_maps():
    data = dataset("spectra", row_image=(2, 2), wavelengths=np.arange(400.0, 460, 10))
    (axes,) = jaxnmf.plots.components((W, H), data, components=[0], relative=True)
    np.testing.assert_array_equal(shown(axes), [[1 / 3, 0], [0, 1]])
    assert axes.images[0].get_cmap().name == "viridis"
    (axes,) = jaxnmf.plots.components((W, H), data, factor="H", components=[1])
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), data.wavelengths)
    np.testing.assert_array_equal(line.get_ydata(), H[1])
    assert axes.get_xlabel() == "wavelength, nm"


def test_entries_on_an_axis_with_names_or_with_neither():
    (axes,) = jaxnmf.plots.components(
        (W, H), x=range(6), label="Hz", components=[1], color="C3", linestyle="--"
    )
    assert axes.get_xlabel() == "Hz"
    assert axes.lines[0].get_color() == "C3"
    (axes,) = jaxnmf.plots.components(
        (W, H), names=list("abcde$"), components=[0], words=5
    )
    assert bars(axes) == {"$": 0.8, "a": 0.2}
    assert [text.get_text() for text in axes.texts] == ["80.0%", "20.0%"]
    (axes,) = jaxnmf.plots.components((W, H), components=[0])
    (lines,) = axes.collections
    heights = [segment[1, 1] for segment in lines.get_segments()]
    assert heights == list(H[0])
    assert axes.get_xlabel() == "column"
    many = np.random.default_rng(0).random((1, 200))
    (axes,) = jaxnmf.plots.components((np.ones((2, 1)), many))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), many[0])


def test_the_callers_axes_hold_the_strongest():
    figure = Figure()
    given = figure.subplots(1, 2)
    found = jaxnmf.plots.components((W, H), image=(2, 3), ax=given)
    assert list(found) == list(given)
    assert [axes.get_title() for axes in given] == ["2", "0"]
    alone = Figure().subplots()
    (axes,) = jaxnmf.plots.components((W, H), components=[1], ax=alone)
    assert axes is alone
    assert alone.get_title() == "1"


def test_a_result_and_pyplot_left_alone():
    import matplotlib.pyplot as plt

    result = jaxnmf.factorize(W @ H, 2, max_iter=3)
    figures = plt.get_fignums()
    found = jaxnmf.plots.components(result, image=(2, 3))
    np.testing.assert_allclose(
        {axes.get_title(): shown(axes).max() for axes in found}["1"], result.H[1].max()
    )
    assert plt.get_fignums() == figures


def test_large_images_are_averaged_and_unknown_pixels_stay_so():
    image = np.arange(1200 * 4.0).reshape(1200, 4)
    (axes,) = jaxnmf.plots.components(
        (np.ones((1, 1)), image.ravel()[None]), image=(1200, 4)
    )
    assert shown(axes).shape == (480, 4)
    np.testing.assert_allclose(shown(axes)[0], image[:2].mean(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": (2, 2)}, r"image=\(2, 2\) must be \(height, width\) with .* 6"),
        ({"image": (2, 3), "names": "abcdef"}, "image and names are given"),
        ({"names": ["a"]}, "names has 1 entries; there are 6"),
        ({"x": [1, 2]}, r"x has shape \(2,\); it must be \(6,\)"),
        ({"factor": "V"}, "factor='V' must be 'W' or 'H'"),
        ({"components": [3]}, r"components holds 3; they are numbered 0 … 2"),
        ({"components": []}, "components is empty"),
        ({"ax": "here"}, "ax holds a str"),
        ({"ax": Figure().subplots(), "components": [0, 1]}, "1 axes for 2 components"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.plots.components((W, H), **arguments)


def test_results_that_are_none():
    for wrong, message in (
        (W, "result is a ndarray"),
        ((W, H.T), r"W has shape \(4, 3\) and H \(6, 3\)"),
        ((W, "H"), "H: str is not num"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxnmf.plots.components(wrong)
    other = dataset("images", column_image=(2, 3))
    with pytest.raises(ValueError, match=r"dataset 'x' has 6 columns; .* has 5"):
        jaxnmf.plots.components((W, H[:, :5]), other)


def test_topics_are_top_words():
    words = ["ant", "bee", "cow", "dog", "elk", "<fly>"]
    found = jaxnmf.plots.topics((W, H), words, k=2)
    assert bars(found[0]) == pytest.approx({"<fly>": 10 / 35, "ant": 5 / 35})
    assert bars(found[1]) == pytest.approx({"<fly>": 0.8, "ant": 0.2})
    data = dataset("text", column_names=tuple(words))
    again = jaxnmf.plots.topics((W, H), data, components=[1])
    assert bars(again[0]) == {"bee": 0.5, "elk": 0.5}
    expected = jaxnmf.topics.top_words(H, words, 2)[1]
    assert list(bars(again[0]).items()) == expected
    with pytest.raises(ValueError, match="no column_names"):
        jaxnmf.plots.topics((W, H), dataset("text"))
    with pytest.raises(ValueError, match="k=0"):
        jaxnmf.plots.topics((W, H), words, k=0)


def test_spectra_share_an_axis():
    data = dataset("spectra", wavelengths=np.arange(400.0, 460, 10))
    axes = jaxnmf.plots.spectra((W, H), data, names=["soil", "tree", "water"])
    assert [line.get_label() for line in axes.lines] == ["water", "soil", "tree"]
    for line, k in zip(axes.lines, ORDER, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), data.wavelengths)
        np.testing.assert_array_equal(line.get_ydata(), H[k] / H[k].max())
    assert axes.get_xlabel() == "wavelength, nm"
    assert len(axes.get_legend().get_texts()) == 3
    axes = jaxnmf.plots.spectra((W, H), factor="W", components=[0], relative=False)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), W[:, 0])
    assert axes.get_legend() is None
    with pytest.raises(ValueError, match="names has 1 entries; there are 3 comp"):
        jaxnmf.plots.spectra((W, H), names=["soil"])
    with pytest.raises(ValueError, match="are pixels, not points"):
        jaxnmf.plots.spectra((W, H), dataset("images", column_image=(2, 3)))


def test_a_second_curve_in_the_same_axes_is_not_cut_off():
    axes = jaxnmf.plots.spectra((W, H), relative=False)
    jaxnmf.plots.spectra((W, 10 * H), relative=False, ax=axes)
    low, high = axes.get_ylim()
    assert low == 0
    assert high >= 10 * H.max()
    (one,) = jaxnmf.plots.components((W, H), components=[0])
    jaxnmf.plots.components((W, 10 * H), components=[0], ax=one)
    low, high = one.get_ylim()
    assert low == 0
    assert high >= 10 * H[0].max()


def test_a_factor_is_a_heat_map():
    axes = jaxnmf.plots.heatmap((W, H))
    np.testing.assert_array_equal(shown(axes), (W / W.max(0))[:, ORDER])
    data = dataset("genes", labels=np.array([1, 0, 0, 1]), label_names=("ALL", "AML"))
    axes = jaxnmf.plots.heatmap((W, H), data, components=[0])
    np.testing.assert_array_equal(shown(axes).ravel(), [0, 0, 1 / 3, 1])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["ALL", "AML"]
    assert list(axes.get_yticks()) == [0.5, 2.5]
    axes = jaxnmf.plots.heatmap((W, H), factor="H")
    np.testing.assert_array_equal(shown(axes), (H.T / H.max(1)).T[ORDER])
    tall = np.repeat([[1.0], [0.0]], 400, axis=0)
    axes = jaxnmf.plots.heatmap((tall, H[:1]), labels=np.repeat([0, 1], 400))
    assert shown(axes).shape == (160, 1)
    assert list(axes.get_yticks()) == pytest.approx([39.9, 119.9])
    with pytest.raises(ValueError, match=r"labels has shape \(2,\)"):
        jaxnmf.plots.heatmap((W, H), labels=[0, 1])
