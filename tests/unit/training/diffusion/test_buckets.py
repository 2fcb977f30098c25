"""At which sizes pictures are trained."""

import pytest

from tunesmith.data.picture_set import Picture
from tunesmith.training.diffusion.buckets import fitting, items_of
from tunesmith.training.diffusion.family import Grid

FLUX = Grid(16)


def sizes(width, height, *resolutions, grid=FLUX):
    picture = Picture(file="0.png", source="p.png", caption="", width=width, height=height, sha256="0" * 64)
    return [(item.width, item.height) for item in items_of([picture], [0], resolutions, grid)]


def test_a_large_picture_is_trained_once_per_resolution():
    assert sizes(4000, 4000, 512, 768, 1024) == [(512, 512), (768, 768), (1024, 1024)]


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(1920, 1080, (1344, 768)), (1080, 1920, (768, 1344)), (3000, 1000, (1792, 576)), (1024, 1025, (1024, 1024))],
)
def test_a_picture_keeps_its_shape_and_the_area_of_the_resolution(width, height, size):
    assert sizes(width, height, 1024) == [size]


def test_a_picture_is_never_made_larger():
    assert sizes(300, 200, 512, 1024) == [(256, 192), (256, 192)]
    assert sizes(50, 30, 1024) == [(48, 16)]


def test_small_resolutions_have_a_finer_grain():
    assert sizes(100, 80, 64) == [(64, 64)]


def test_a_table_of_positions_limits_the_longer_edge():
    assert sizes(4096, 256, 1024, grid=Grid(16, 1024)) == [(1024, 256)]


@pytest.mark.parametrize(("width", "height"), [(15, 400), (1, 1), (100_000, 40)])
def test_a_picture_too_narrow_for_one_token_does_not_fit(width, height):
    narrow, wide = (
        Picture(file="0.png", source="p.png", caption="", width=size[0], height=size[1], sha256="0" * 64)
        for size in ((width, height), (16, 16))
    )
    assert fitting([narrow, wide, narrow], [64, 512], FLUX) == [1]


def test_tokens_count_patches():
    picture = Picture(file="0.png", source="p.png", caption="", width=640, height=512, sha256="0" * 64)
    [item] = items_of([picture], [0], [1024], FLUX)
    assert item.tokens == 40 * 32
