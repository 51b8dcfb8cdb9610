from matplotlib.text import Text

from udever.report import style


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_series_stands_out_from_both_grounds():
    for number in range(8):
        look = style.series(number)
        assert contrast(look.color, style.PANEL) >= 4.5
        assert contrast(style.PALETTE[look.color], style.PALETTE[style.PANEL]) >= 4.5


def test_series_differ_in_shape_where_their_colours_repeat():
    looks = [style.series(number) for number in range(72)]
    assert len({(look.color, look.marker) for look in looks}) == 72
    assert len({look.marker for look in looks[:8]}) == 8  # in print without colour the first eight differ by shape


def test_every_label_stands_right_of_its_point_at_its_height():
    points = [(1.0, 0.5 + row / 10, f"model number {row}") for row in range(4)]
    with style.drawing():
        figure = style.canvas(6, 4)
        axes = figure.add_subplot()
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o")
        style.write_labels(axes, points)
        figure.draw_without_rendering()  # moves the texts to where they belong
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        dots = axes.transData.transform([point[:2] for point in points])
    assert [text.get_text() for text in axes.texts] == [text for _, _, text in points]
    for box, (x, y) in zip(boxes, dots, strict=True):
        assert x < box.x0 < x + 20 and box.y0 < y < box.y1
