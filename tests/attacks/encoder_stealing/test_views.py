"""What a surrogate sees: plain inputs untouched, views changed but still inputs."""

import numpy as np
import pytest
import torch

from dosimeter.attacks.encoder_stealing.views import ImageViews, TextViews, views_for
from dosimeter.data.images import resize
from dosimeter.models.networks import initial_weights
from dosimeter.models.word_transformer import encode_words

TEXTS = ["the cat sat on the mat and looked at the moon", "one", "", "alpha beta gamma delta epsilon zeta"]


def test_plain_images_are_the_pixels_over_255_and_nothing_else(images):
    views = ImageViews(8)
    rows = views.rows(images)
    assert rows.dtype == torch.uint8 and rows.shape == (40, 3, 8, 8)
    plain = views.plain(rows)
    np.testing.assert_array_equal(plain.numpy(), images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    assert rows.dtype == torch.uint8 and torch.equal(rows, views.rows(images)), "the rows were changed"


def test_images_of_another_size_are_resized(images):
    rows = ImageViews(12).rows(images)
    np.testing.assert_array_equal(rows.numpy(), resize(images, 12).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("crop", [False, True])
def test_views_are_images_in_range_and_differ_from_plain_ones(images, crop):
    views = ImageViews(8, crop=crop)
    with initial_weights(0, "views"):
        seen = views.augmented(views.rows(images))
    assert seen.shape == (40, 3, 8, 8) and seen.min() >= 0 and seen.max() <= 1
    changed = (seen - views.plain(views.rows(images))).abs().flatten(1).max(1).values > 1e-3
    assert changed.float().mean() > 0.8


def test_each_input_gets_a_change_of_its_own(images):
    views = ImageViews(8)
    same = np.repeat(images[:1], 40, axis=0)
    with initial_weights(0, "views"):
        seen = views.augmented(views.rows(same)).flatten(1)
    assert len(torch.unique(seen, dim=0)) > 20


def test_views_follow_torchs_generator_and_nothing_else(images):
    views = ImageViews(8)
    made = []
    for seed in (0, 0, 1):
        with initial_weights(seed, "views"):
            made.append(views.augmented(views.rows(images)))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_published_shares_of_flips_and_grey_images():
    left = np.zeros((2000, 8, 8, 3), np.uint8)
    left[:, :, :4] = (200, 60, 60)
    views = ImageViews(8)
    with initial_weights(0, "shares"):
        seen = views.augmented(views.rows(left))
    flipped = seen[:, 0, :, 4:].mean((1, 2)) > seen[:, 0, :, :4].mean((1, 2))
    colours = seen.amax((2, 3))
    grey = (colours.max(1).values - colours.min(1).values) < 1e-3
    # Three standard errors of a share of 2,000; jitter may make a few more grey.
    assert abs(flipped.float().mean() - 0.5) < 0.034
    assert 0.17 < grey.float().mean() < 0.26


def test_without_flip_left_stays_left():
    left = np.zeros((200, 8, 8, 3), np.uint8)
    left[:, :, :4] = 200
    views = ImageViews(8, flip=False)
    seen = views.augmented(views.rows(left))
    assert (seen[..., :4].mean((1, 2, 3)) > seen[..., 4:].mean((1, 2, 3))).all()


def test_text_views_only_leave_words_out():
    views = TextViews(12)
    rows = views.rows(TEXTS)
    assert torch.equal(rows, encode_words(TEXTS, 12)) and torch.equal(views.plain(rows), rows)
    with initial_weights(0, "texts"):
        seen = torch.stack([views.augmented(rows) for _ in range(200)])
    assert ((seen == rows) | (seen == 0)).all()
    assert (seen > 0).any(2).all(), "a view lost every word"
    lost = ((seen == 0) & (rows > 0)).float().sum((0, 2)) / (rows > 0).sum(1) / 200
    # 15 % drop-out; in every second view a span of 20 % as well, cut where it would run over the end.
    assert 0.15 < lost[0] < 0.27
    assert lost[1] == 0 and lost[2] == 0, "a single word cannot be lost"


def test_a_span_masks_neighbours():
    views = TextViews(40, dropout=0.0, span=0.25)
    rows = torch.arange(1, 41)[None].repeat(300, 1)
    with initial_weights(0, "spans"):
        seen = views.augmented(rows)
    gone = [np.flatnonzero(row == 0) for row in seen.numpy()]
    spans = [hole for hole in gone if len(hole)]
    assert 0.4 < len(spans) / 300 < 0.6
    assert all(len(hole) == hole[-1] - hole[0] + 1 <= 10 for hole in spans)


def test_views_by_modality():
    assert isinstance(views_for("image", 8), ImageViews)
    assert views_for("text", 20).length == 20
