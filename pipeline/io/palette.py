"""The color map of PASCAL VOC label images."""


def voc_palette() -> list[int]:
    """Return the VOC palette: bit i of a class number sets bit 7 - i // 3 of channel i % 3.

    Returns
    -------
    list of 768 int
        Red, green and blue of the 256 label values, each in [0, 255].

    Examples
    --------
    >>> voc_palette()[3:6]  # class 1, aeroplane
    [128, 0, 0]
    """
    palette = []
    for label in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= ((label >> bit) & 1) << (7 - bit // 3)
        palette += color
    return palette
