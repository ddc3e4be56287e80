"""Augmentation of batches: each image is changed as said, by draws of the given generator only."""

import math

import pytest
import torch
from torch import Tensor

from archsearch.data import AugmentSection
from archsearch.data.augment import augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 64, channels: int = 3, height: int = 6, width: int = 10) -> tuple[Tensor, Tensor]:
    """Images ``(n, height, width, channels)`` uint8 whose pixels all differ and are never 0."""
    place = torch.arange(height * width).reshape(height, width, 1) + 1
    x = place + torch.arange(channels) * 70 + torch.arange(n)[:, None, None, None] % 7
    return x.to(torch.uint8), torch.arange(n) % 5


def run(x: Tensor, y: Tensor, seed: int = 0, classes: int | None = 5, **settings: float) -> tuple[Tensor, Tensor]:
    return augment(x, y, AugmentSection(**settings), generator(seed), classes=classes)


def test_nothing_asked_nothing_changed() -> None:
    x, y = batch()
    out, labels = run(x, y)
    assert torch.equal(out, x) and torch.equal(labels, y)


@pytest.mark.parametrize(
    "settings", [{"flip": True}, {"shift": 0.25}, {"cutout": 0.4}, {"flip": True, "shift": 0.3, "cutout": 0.5}]
)
def test_both_layouts_do_the_same_and_leave_their_input_alone(settings: dict[str, float]) -> None:
    x, y = batch()
    before = x.clone()
    pixels, labels = run(x, y, **settings)
    planes, _ = run(x.permute(0, 3, 1, 2).double(), y, **settings)
    assert pixels.dtype == torch.uint8 and pixels.shape == x.shape and planes.dtype == torch.float64
    assert torch.equal(pixels.permute(0, 3, 1, 2).double(), planes)
    assert torch.equal(x, before) and labels is y
    assert not torch.equal(pixels, x)


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    x, y = batch(400)
    out, _ = run(x, y, flip=True)
    flipped = (out == x.flip(2)).flatten(1).all(1)
    same = (out == x).flatten(1).all(1)
    assert (flipped ^ same).all() and 150 < int(flipped.sum()) < 250


def test_shift_moves_each_image_by_its_own_offset_and_fills_with_zero() -> None:
    x, y = batch(600)
    out, _ = run(x, y, shift=0.3)  # up to 2 of 6 rows and 3 of 10 columns
    offsets = set()
    for image, moved in zip(x, out, strict=True):
        padded = torch.nn.functional.pad(image, (0, 0, 3, 3, 2, 2))
        found = [
            (down, right)
            for down in range(5)
            for right in range(7)
            if torch.equal(padded[down : down + 6, right : right + 10], moved)
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert offsets == {(down, right) for down in range(5) for right in range(7)}


def test_flip_and_shift_together_are_a_flip_of_a_shift_or_not() -> None:
    x, y = batch(100)
    out, _ = run(x, y, flip=True, shift=0.2)
    kept = (out != 0).all(3)
    for image, moved, there in zip(x, out, kept, strict=True):
        values = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
        assert {tuple(pixel) for pixel in moved[there].tolist()} <= values
        rows, columns = there.any(1).sum(), there.any(0).sum()
        assert there.sum() == rows * columns and rows >= 5 and columns >= 8


@pytest.mark.parametrize(("share", "tall", "wide"), [(0.5, 3, 5), (0.01, 1, 1), (1.0, 6, 10), (0.34, 2, 3)])
def test_cutout_is_a_hole_of_that_share_clipped_at_the_border(share: float, tall: int, wide: int) -> None:
    x, y = batch(500)
    out, _ = run(x, y, cutout=share)
    hole = (out == 0).all(3)
    assert torch.equal(out[~hole], x[~hole])
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.flatten(1).sum(1), heights * widths), "a rectangle"
    assert int(heights.max()) == tall and int(widths.max()) == wide
    assert int(heights.min()) == math.ceil(tall / 2) and int(widths.min()) == math.ceil(wide / 2), "half of it at the border"
    assert hole.any(0).all(), "each pixel is hit in some image"


def test_cutout_comes_on_top_of_a_shift() -> None:
    x, y = batch()
    shifted, _ = run(x, y, shift=0.3)
    both, _ = run(x, y, shift=0.3, cutout=0.2)
    assert not both[shifted == 0].any() and (both == 0).sum() > (shifted == 0).sum()
    assert torch.equal(both[both != 0], shifted[both != 0])


def test_cutout_centre_is_even_over_the_image() -> None:
    x, y = batch(6000, channels=1)
    hole = (run(x, y, cutout=0.01)[0] == 0).squeeze(3).sum(0)
    assert int(hole.min()) > 60 and int(hole.max()) < 145  # 100 each expected


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_mixes_images_and_labels_by_the_same_weight(alpha: float) -> None:
    n = 300
    x = torch.eye(n).reshape(n, 1, 1, n)  # the image says who is in it, and how much
    out, labels = augment(x, torch.arange(n), AugmentSection(mixup=alpha), generator(), classes=n)
    assert torch.allclose(out.reshape(n, n), labels, atol=1e-6)
    assert torch.allclose(labels.sum(1), torch.ones(n), atol=1e-6) and ((labels > 0).sum(1) <= 2).all()
    assert bool((labels >= 0).all()) and torch.allclose(labels.sum(0).sum(), torch.tensor(float(n)))
    weight = labels.diagonal()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(float(weight.mean()) - 0.5) < 0.08 and abs(float(weight.var()) - variance) < 0.035


def test_mixup_weights_follow_the_beta_distribution() -> None:
    from scipy.stats import beta

    from archsearch.data.augment import _beta

    for alpha in (0.1, 0.4, 1.0):
        drawn = _beta(alpha, 4000, generator(3), torch.device("cpu"))
        for level in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999):
            assert abs(float((drawn < level).float().mean()) - beta(alpha, alpha).cdf(level)) < 0.025
    assert torch.isfinite(_beta(1e-9, 1000, generator(), torch.device("cpu"))).all()


def test_mixup_of_bytes_gives_floats_and_soft_labels_stay_soft() -> None:
    x, y = batch()
    out, labels = run(x, y, mixup=0.5)
    assert out.dtype == torch.float32 and out.shape == x.shape and 0 < float(out.max()) <= 255
    again, soft = run(x, torch.nn.functional.one_hot(y, 5).double(), mixup=0.5, classes=None)
    assert soft.dtype == torch.float64 and torch.allclose(soft.float(), labels) and torch.equal(again, out)
    with pytest.raises(ValueError, match="number of classes"):
        run(x, y, mixup=0.5, classes=None)


def test_the_generator_alone_decides() -> None:
    x, y = batch()
    everything = {"flip": True, "shift": 0.2, "cutout": 0.3, "mixup": 0.4}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = run(x, y, seed=5, **everything)
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator was used"
    torch.manual_seed(2)
    second, third = run(x, y, seed=5, **everything), run(x, y, seed=6, **everything)
    assert all(map(torch.equal, first, second)) and not torch.equal(first[0], third[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_device() -> None:
    x, y = (value.cuda() for value in batch())
    settings = AugmentSection(flip=True, shift=0.2, cutout=0.3, mixup=0.4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        runs = [augment(x, y, settings, torch.Generator("cuda").manual_seed(1), classes=5) for _ in range(2)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert runs[0][0].is_cuda and all(map(torch.equal, *runs))
