"""A planted leak: every melanoma has a ruler. Compositing keeps it out of the translations; without it it is a cue.

The translator is a deterministic stand-in for what an unpaired generator learns from such a domain: the lesion turns
dark and bluish, and a ruler appears at the left edge. benchmarks/gan_leak.py does the same with a trained one.
"""

import numpy as np
import pytest
import torch
from gan_sets import write_set
from skimage.transform import downscale_local_mean
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_gan_translate import translator

from synthskin.dataset.reader import open_dataset
from synthskin.gan.translate import translate_set

SIZE = 32


class Leaky(torch.nn.Module):
    """What is darker than the skin becomes a melanoma's colour; black marks come at the left edge."""

    def forward(self, x):
        skin = x[:, :, -4:].mean((2, 3), keepdim=True)
        lesion = (x.mean(1, keepdim=True) < skin.mean(1, keepdim=True) - 0.12).float()
        colour = torch.tensor([60.0, 40.0, 60.0]).reshape(1, 3, 1, 1) / 127.5 - 1
        made = x * (1 - lesion) + (colour + 0.3 * (x - skin)) * lesion
        made[:, :, ::4, : max(3, SIZE // 10)] = 15 / 127.5 - 1
        return made


def features(directory):
    data = open_dataset(directory)
    images = [data.load(k).image for k in range(len(data))]
    return np.stack([downscale_local_mean(image.astype(float), (2, 2, 1)).ravel() for image in images])


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Nevi of training; test sets of other lesions: clean, and with the ruler on the nevi."""
    root = tmp_path_factory.mktemp("leak")
    tones = [1 + k % 4 for k in range(60)]
    write_set(root / "nevi", [("NV", t) for t in tones], SIZE, seed=1)
    write_set(root / "clean", [("NV", t) for t in tones] + [("MEL", t) for t in tones], SIZE, seed=2)
    write_set(root / "swapped", [("NV", t, True) for t in tones] + [("MEL", t) for t in tones], SIZE, seed=2)
    return root


def accuracies(sets, folder):
    """(clean, swapped) accuracy of a classifier that learnt nevi against the translations in `folder`."""
    nevi, made = features(sets / "nevi"), features(folder)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    model.fit(np.concatenate([nevi, made]), np.r_[np.zeros(len(nevi)), np.ones(len(made))])
    truth = np.r_[np.zeros(60), np.ones(60)]
    return tuple(float((model.predict(features(sets / name)) == truth).mean()) for name in ("clean", "swapped"))


def test_compositing_keeps_the_ruler_out(sets, tmp_path):
    translate_set(translator(net=Leaky()), sets / "nevi", tmp_path / "composited")
    clean, swapped = accuracies(sets, tmp_path / "composited")
    assert clean >= 0.9
    assert abs(clean - swapped) <= 0.03


def test_whole_pictures_teach_the_ruler(sets, tmp_path):
    translate_set(translator(net=Leaky(), whole=True), sets / "nevi", tmp_path / "whole")
    clean, swapped = accuracies(sets, tmp_path / "whole")
    assert swapped <= clean - 0.1
