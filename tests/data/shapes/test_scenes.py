import numpy as np

from refinecam.core.seeding import generator
from refinecam.data.shapes.scenes import crowd_scene


def test_scenes_are_deterministic_and_busy():
    first, again, other = (crowd_scene(generator(0, "scene", i)) for i in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (256, 256, 3)
    edges = np.abs(np.diff(first.astype(int), axis=1)).sum(2) > 30
    assert edges.mean() > 0.1  # hundreds of figures leave edges everywhere
