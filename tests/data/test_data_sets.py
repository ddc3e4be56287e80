"""The embedded digits, the generated glyphs, splits and the content hash."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from archsearch.data import AugmentSection, DataSection, Dataset, GlyphsSection, content_hash, load, normalise
from archsearch.data.dataset import permutation, stratified_split
from archsearch.data.glyphs import _DEGREE, _ONE, Draws, images
from archsearch.data.outlines import CHARACTERS, FACES, _rasterise, masks, outlines
from archsearch.jobs import InputError
from archsearch.registry import DATASETS

SPLITS = ("train", "val", "test")


def glyphs(seed: int = 0, max_train: int | None = None, **knobs: float) -> Dataset:
    sizes = {"train": 140, "val": 72, "test": 75} | knobs
    return load(DataSection(name="glyphs", seed=seed, max_train=max_train, glyphs=GlyphsSection(**sizes)))


def rows(x: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in x}


# ---------------------------------------------------------------------------------------------------------------- digits
def test_digits_are_the_real_ones_scaled_and_each_used_once() -> None:
    from sklearn.datasets import load_digits

    data = load(DataSection())
    assert (data.shape, data.classes, data.class_names) == ((1, 8, 8), 10, tuple("0123456789"))
    for split in SPLITS:
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        assert x.dtype == np.uint8 and x.flags.c_contiguous and x.shape[1:] == (8, 8, 1)
        assert y.dtype == np.int64 and len(x) == len(y)
    everything = np.concatenate([data.x_train, data.x_val, data.x_test])
    labels = np.concatenate([data.y_train, data.y_val, data.y_test])
    original = load_digits()
    assert sorted(zip((x.tobytes() for x in everything), labels, strict=True)) == sorted(
        zip((x.tobytes() for x in np.rint(original.images * 15.9375).astype(np.uint8)), original.target, strict=True)
    )


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    from archsearch.data import digits

    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        load(DataSection(name="digits"))


def test_digits_split_is_stratified_and_known() -> None:
    data = load(DataSection())
    assert [len(data.y_train), len(data.y_val), len(data.y_test)] == [1078, 270, 449]
    for split, share in (("val", 0.15), ("test", 0.25)):
        counts = np.bincount(getattr(data, f"y_{split}"))
        whole = np.bincount(np.concatenate([data.y_train, data.y_val, data.y_test]))
        assert np.abs(counts - whole * share).max() <= 1.5
    assert data.hash == "66328a1cc9256ae63a8305822f89623befb2f3db397477eca227ff538142ad47"


def test_seed_and_shares_decide_the_digits_split() -> None:
    base, other = load(DataSection()), load(DataSection(seed=1))
    assert load(DataSection()).hash == base.hash != other.hash
    assert not np.array_equal(base.y_test, other.y_test)
    few = load(DataSection(val_share=0.5, test_share=0.01))
    assert (len(few.y_test), len(few.y_val)) == (18, 890)


# ---------------------------------------------------------------------------------------------------------------- glyphs
def test_glyphs_are_these_bytes_on_every_machine() -> None:
    """Seen with matplotlib 3.9, 3.10 and 3.11 (FreeType 2.6 and 2.14) and NumPy 2.0 and 2.4."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the fonts' own hash is checked, with a warning
        outlines.cache_clear()
        data = load(DataSection(name="glyphs", glyphs=GlyphsSection(train=200, val=100, test=100)))
    assert data.shape == (3, 32, 32) and data.classes == 62
    assert data.hash == "1df9b2d95f3eeb6133cd72f7b93869881d1ab311994cd6eb688974ed160cb468"


def test_other_fonts_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsearch.data.outlines.OUTLINES_SHA256", "0" * 64)
    outlines.cache_clear()
    with pytest.warns(UserWarning, match="not those that the glyphs data set was made with"):
        outlines()
    outlines.cache_clear()


def test_glyph_splits_share_no_image_and_hold_every_class_evenly() -> None:
    data = glyphs()
    kinds = [rows(getattr(data, f"x_{split}")) for split in SPLITS]
    assert [len(kind) for kind in kinds] == [140, 72, 75]
    assert len(set.union(*kinds)) == 140 + 72 + 75
    for split in SPLITS:
        counts = np.bincount(getattr(data, f"y_{split}"), minlength=62)
        assert len(counts) == 62 and counts.max() - counts.min() <= 1
    assert (np.diff(data.y_train[:100]) != 1).any(), "not left in the order of classes"


def test_more_glyphs_keep_the_first_ones() -> None:
    knobs = GlyphsSection()
    few, many = images(knobs, 50, 3), images(knobs, 150, 3)
    assert np.array_equal(many[0][:50], few[0]) and np.array_equal(many[1][:50], few[1])
    assert len(rows(many[0])) == 150


def test_seed_and_each_knob_change_the_glyphs() -> None:
    variants = [glyphs(), glyphs(seed=1), glyphs(difficulty=0.8), glyphs(classes=36), glyphs(size=24), glyphs(classes=72)]
    assert len({data.hash for data in variants}) == len(variants)
    assert variants[4].shape == (3, 24, 24) and variants[5].class_names == tuple(CHARACTERS)


def test_harder_glyphs_lie_further_from_their_class() -> None:
    """Nearest class mean of the colourless images: easy ones are much better told apart than hard ones."""

    def error(difficulty: float) -> float:
        knobs = GlyphsSection(classes=10, difficulty=difficulty)

        def plain(x: np.ndarray) -> np.ndarray:
            grey = x.astype(float).mean(axis=3)
            grey = np.abs(grey - np.median(grey, axis=(1, 2), keepdims=True)).reshape(len(x), -1)
            return grey / np.linalg.norm(grey, axis=1, keepdims=True)

        (x, y), (x_test, y_test) = images(knobs, 1000, 1), images(knobs, 400, 2)
        means = np.stack([plain(x)[y == k].mean(axis=0) for k in range(10)])
        distance = ((plain(x_test)[:, None] - means) ** 2).sum(axis=2)
        return float((distance.argmin(axis=1) != y_test).mean())

    easy, middle, hard = error(0.0), error(0.5), error(1.0)
    assert easy < 0.15 < middle < hard < 0.9, (easy, middle, hard)


def test_case_is_a_matter_of_size_and_every_mask_differs() -> None:
    table = masks(72, 19)
    assert table.shape == (len(FACES), 72, 42, 42)
    assert not table[:, :, [0, -1]].any() and not table[:, :, :, [0, -1]].any(), "the border is what lies outside"
    height = (table > 127).any(axis=3).sum(axis=2)
    for small in "cosvwxz":
        ratio = height[:, CHARACTERS.index(small)] / height[:, CHARACTERS.index(small.upper())]
        assert ratio.max() < 0.85, small
    for face in table:
        distance = np.abs(face[:, None].astype(int) - face[None]).sum(axis=(2, 3)) / 255
        assert (distance + 1000 * np.eye(72)).min() > 3


def test_rasteriser_covers_what_lies_inside() -> None:
    def square(a: float, b: float, turn: bool = False) -> np.ndarray:
        corners = np.array([[a, a], [b, a], [b, b], [a, b], [a, a]])[:: -1 if turn else 1]
        return np.stack([corners[:-1], corners[1:]], axis=1)

    def draw(*shapes: np.ndarray) -> np.ndarray:
        lines = np.concatenate(shapes)
        return _rasterise(lines[:, :, 0], lines[:, :, 1], 8).astype(int)

    solid = draw(square(2, 6))
    assert (solid[2:6, 2:6] == 255).all() and solid.sum() == 16 * 255
    assert draw(square(2, 6, turn=True)).tolist() == solid.tolist()
    assert draw(square(2, 6), square(3, 5)).tolist() == solid.tolist(), "overlap is not a hole"
    assert draw(square(2, 6), square(3, 5, turn=True)).sum() == 12 * 255, "a contour the other way round is"
    assert draw(square(2.5, 5.5))[2, 2:6].tolist() == [64, 128, 128, 64]


def test_sines_in_the_table_are_far_from_a_rounding_tie() -> None:
    exact = np.sin(np.radians(np.arange(360 * _DEGREE) / _DEGREE)) * _ONE
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-6


@given(st.integers(0, 2**63 - 1), st.integers(-1000, 1000), st.integers(0, 1000))
def test_drawn_integers_stay_in_their_range(seed: int, low: int, width: int) -> None:
    drawn = Draws(seed).integers(low, low + width, 4, 50)
    assert drawn.shape == (4, 50) and drawn.min() >= low and drawn.max() <= low + width


def test_draws_are_even_and_the_noise_has_its_spread() -> None:
    assert np.abs(np.bincount(Draws(5).integers(0, 9, 20_000)) - 2000).max() < 250
    noise = Draws(6).bell(20_000)
    assert abs(noise.mean()) < 4 and abs(noise.std() - 147.8) < 3


@pytest.mark.parametrize(
    "knobs", [{"train": 61}, {"difficulty": 1.1}, {"classes": 73}, {"size": 4}, {"classes": 1}, {"extra": 1}]
)
def test_glyph_knobs_out_of_range_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(knobs))):
        GlyphsSection(**knobs)


# ---------------------------------------------------------------------------------------------------- splits, load, hash
@settings(max_examples=200)
@given(st.data())
def test_stratified_split_is_a_proportional_partition(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2, 40), min_size=1, max_size=8))
    labels = np.repeat(np.arange(len(sizes)), sizes)[permutation(7, sum(sizes))]
    count = data.draw(st.integers(len(sizes), len(labels) - len(sizes)))
    rest, part = stratified_split(labels, count, data.draw(st.integers(0, 99)))
    assert len(part) == count and sorted([*rest, *part]) == list(range(len(labels)))
    assert (np.diff(part) > 0).all() and (np.diff(rest) > 0).all()
    taken, exact = np.bincount(labels[part]), np.array(sizes) * count / sum(sizes)
    assert taken.min() >= 1 and (np.array(sizes) - taken).min() >= 1
    if exact.min() >= 1 and (np.array(sizes) - exact).min() >= 1:
        assert np.abs(taken - exact).max() < 1


def test_stratified_split_depends_on_the_seed_only() -> None:
    labels = np.arange(60) % 3
    first = stratified_split(labels, 15, 1)[1]
    assert np.array_equal(first, stratified_split(labels, 15, 1)[1])
    assert not np.array_equal(first, stratified_split(labels, 15, 2)[1])


def test_stratified_split_says_what_is_lacking() -> None:
    with pytest.raises(InputError, match="class 2 has 1 sample"):
        stratified_split(np.array([0, 0, 1, 1, 2]), 3, 0)
    for count in (1, 9):
        with pytest.raises(InputError, match="cannot hold all 2 classes"):
            stratified_split(np.arange(10) % 2, count, 0)


def test_max_train_limits_the_training_images_evenly() -> None:
    whole, limited = load(DataSection()), load(DataSection(max_train=50))
    assert np.bincount(limited.y_train).tolist() == [5] * 10
    assert rows(limited.x_train) <= rows(whole.x_train)
    assert np.array_equal(limited.x_val, whole.x_val) and np.array_equal(limited.x_test, whole.x_test)
    assert limited.hash != whole.hash == load(DataSection(max_train=5000)).hash
    with pytest.raises(InputError, match="max_train: 9 images cannot hold one of each of 10 classes"):
        load(DataSection(max_train=9))


def test_without_test_hides_the_test_split_and_keeps_the_hash() -> None:
    data = load(DataSection())
    hidden = data.without_test()
    assert len(hidden.x_test) == len(hidden.y_test) == 0 and hidden.x_test.base is None
    assert hidden.hash == data.hash and hidden.shape == data.shape
    assert hidden.x_train is data.x_train and len(data.x_test) == 449


def test_hash_sees_every_byte_shape_and_class() -> None:
    def split(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return Draws(seed).integers(0, 255, 6, 4, 4, 1).astype(np.uint8), np.arange(6) % 3

    base = Dataset.of("a", split(1), split(2), split(3), "abc")
    assert Dataset.of("b", split(1), split(2), split(3), "xyz").hash == base.hash, "names are not content"
    hashes = {base.hash, Dataset.of("a", split(1), split(2), split(3), "abcd").hash}
    for index in range(6):
        parts = [split(1), split(2), split(3)]
        parts[index // 2][index % 2].reshape(-1)[-1] ^= 1
        hashes.add(Dataset.of("a", *parts, "abc").hash)
    hashes.add(Dataset.of("a", *[(x.reshape(6, 2, 8, 1), y) for x, y in map(split, (1, 2, 3))], "abc").hash)
    hashes.add(Dataset.of("a", split(2), split(1), split(3), "abc").hash)
    assert len(hashes) == 10
    big = [np.arange(3, dtype=">i8"), np.zeros((0, 2), np.uint8)]
    assert content_hash(big, 2) == content_hash([np.arange(3, dtype="<i8"), big[1]], 2)


def test_normalise_is_the_mean_and_deviation_of_the_training_images() -> None:
    x = Draws(1).integers(0, 255, 1500, 3, 2, 3).astype(np.uint8)
    x[..., 2] = 77
    y = np.arange(1500) % 2
    mean, std = normalise(Dataset.of("a", (x, y), (x[:9] // 2, y[:9]), (x[:9], y[:9]), "ab"))
    assert mean == pytest.approx(x.mean(axis=(0, 1, 2)) / 255, rel=1e-12)
    assert std[:2] == pytest.approx(x.std(axis=(0, 1, 2))[:2] / 255, rel=1e-12)
    assert std[2] == 1.0


def test_a_data_set_registers_from_outside() -> None:
    @DATASETS.register("halves")
    def halves(section: DataSection) -> Dataset:
        x, y = np.zeros((8, 4, 4, 1), np.uint8), np.arange(8) % 2
        return Dataset.of("halves", (x, y), (x, y), (x, y), "ab")

    assert load(DataSection(name="halves")).classes == 2
    with pytest.raises(ValidationError, match="Did you mean 'digits'"):
        DataSection(name="digit")
    with pytest.raises(ValidationError, match=r"data\.path is not set"):
        DataSection(name="npz")
    with pytest.raises(ValidationError, match="finite"):
        AugmentSection(shift=float("nan"))


def test_the_sections_load_nothing_heavy() -> None:
    code = "import sys, archsearch.data; print({'torch', 'ray', 'sklearn', 'matplotlib', 'fontTools'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
