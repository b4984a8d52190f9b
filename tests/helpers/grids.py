"""Brute-force references on grids of cells, in float64 and one pair at a time."""

import numpy as np


def path(start, end):
    """Cells within a distance below 1 of the line between two cells, in their bounding box."""
    (y0, x0), (y1, x1) = start, end
    dy, dx = y1 - y0, x1 - x0
    return [
        (y, x)
        for y in range(min(y0, y1), max(y0, y1) + 1)
        for x in range(min(x0, x1), max(x0, x1) + 1)
        if abs(dy * (x - x0) - dx * (y - y0)) / np.hypot(dy, dx) < 1
    ]


def pairs(height, width, radius):
    """All pairs of cells nearer than a radius, the first one before the second."""
    cells = [(y, x) for y in range(height) for x in range(width)]
    for i, a in enumerate(cells):
        for j in range(i + 1, len(cells)):
            b = cells[j]
            if (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 < radius**2:
                yield (i, a), (j, b)


def affinity_matrix(edges, radius):
    """Dense symmetric matrix of 1 - (the largest edge on the path); 1 on the diagonal."""
    edges = np.asarray(edges, np.float64)
    matrix = np.eye(edges.size)
    for (i, a), (j, b) in pairs(*edges.shape, radius):
        matrix[i, j] = matrix[j, i] = 1 - max(edges[cell] for cell in path(a, b))
    return matrix


def transition_matrix(edges, radius, beta):
    """Dense column-stochastic matrix."""
    powers = affinity_matrix(edges, radius) ** beta
    return powers / powers.sum(axis=0, keepdims=True)


def dense_walk(maps, edges, radius, beta, steps):
    """Maps (K, H, W) times (1 - edges) times the dense matrix to a power."""
    maps, edges = np.asarray(maps, np.float64), np.asarray(edges, np.float64)
    power = np.linalg.matrix_power(transition_matrix(edges, radius, beta), steps)
    return ((maps * (1 - edges)).reshape(-1, edges.size) @ power).reshape(maps.shape)


def cosine_matrix(layers, radius):
    """Dense symmetric matrix of the mean cosines of layers, 0 if negative; 1 on the diagonal."""
    layers = [np.asarray(layer, np.float64) for layer in layers]
    height, width = layers[0].shape[1:]
    matrix = np.eye(height * width)
    for (i, a), (j, b) in pairs(height, width, radius):
        vectors = [(layer[:, *a], layer[:, *b]) for layer in layers]
        cosines = [u @ v / (np.linalg.norm(u) * np.linalg.norm(v)) for u, v in vectors]
        matrix[i, j] = matrix[j, i] = max(0.0, np.mean(cosines))
    return matrix


def power_walk(maps, affinities, beta, steps):
    """Maps (K, H, W) times the column-stochastic matrix of affinities to a power."""
    powers = np.asarray(affinities, np.float64) ** beta
    matrix = np.linalg.matrix_power(powers / powers.sum(axis=0, keepdims=True), steps)
    maps = np.asarray(maps, np.float64)
    return (maps.reshape(-1, len(matrix)) @ matrix).reshape(maps.shape)
