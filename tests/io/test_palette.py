from pipeline.io.palette import voc_palette


def test_first_colors_are_those_of_the_voc_devkit():
    palette = voc_palette()
    colors = [tuple(palette[3 * k : 3 * k + 3]) for k in range(256)]
    assert len(palette) == 768
    assert colors[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert colors[15] == (192, 128, 128)  # person
    assert colors[20] == (0, 64, 128)  # tvmonitor
    assert colors[255] == (224, 224, 192)  # void
    assert len(set(colors)) == 256
