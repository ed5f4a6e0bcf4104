"""Does it learn? Translators against the true counterfactual of held-out lesions, and against colour transfer.

tests/data/gan_pairs64: `synthskin counterfactual --preset nv --tones fst1,fst5 -n 36 --size 64 --seed 0`. The first 24
lesions are learnt from, drawn unpaired; the last 12 are judged. docs/gan.md has the table of all methods at more steps.
"""

from pathlib import Path

import numpy as np
import pytest

from synthskin.gan import reinhard
from synthskin.gan.domain import load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.truth import against_truth, ciede2000, pairs
from synthskin.gan.where import Where

DATA = Path(__file__).parent / "data/gan_pairs64"


@pytest.fixture(scope="module")
def parts():
    everything = load_domain(DATA, Where(), 64)
    found = pairs(everything, ("fst1", "fst5"))
    assert len(found) == 36
    return tuple(everything.subset([pair[side] for pair in some]) for some in (found[:24], found[24:])
                 for side in (0, 1))


def pictures(domain):
    return [domain.picture(k) for k in range(len(domain))]


@pytest.fixture(scope="module")
def colour_transfer(parts):
    """Reinhard et al. 2001 as published: each picture takes the statistics of one target picture, over all of them."""
    sources, truth = [p.image for p in pictures(parts[2])], pictures(parts[3])
    targets = [reinhard.ColourStatistics.of(p.image[None]) for p in pictures(parts[1])]
    found = [against_truth([reinhard.transfer(x, to) for x in sources], truth) for to in targets[::3]]
    return np.mean([[t.lesion, t.skin] for t in found], axis=0)


def test_distances():
    """Sharma et al. 2005's first pair would need Lab; here: equal pictures, and black against white is 100."""
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert ciede2000(black, black).max() == 0
    assert np.allclose(ciede2000(black, white), 100, atol=0.01)


def test_colour_transfer_reaches_its_target():
    """A picture transferred to another's statistics has them, but for clipping and rounding."""
    rng = np.random.default_rng(0)
    a = np.clip(rng.normal((200, 150, 130), 8, (32, 32, 3)), 0, 255).astype(np.uint8)
    b = np.clip(rng.normal((110, 80, 60), 12, (32, 32, 3)), 0, 255).astype(np.uint8)
    wanted = reinhard.ColourStatistics.of(b[None])
    found = reinhard.ColourStatistics.of(reinhard.transfer(a, wanted)[None])
    assert np.allclose(found.mean, wanted.mean, atol=0.01) and np.allclose(found.deviation, wanted.deviation, rtol=0.1)
    assert np.abs(reinhard.transfer(a, reinhard.ColourStatistics.of(a[None])).astype(int) - a).max() <= 1


@pytest.mark.parametrize(("method", "steps", "norm"), [("cyclegan", 400, "none"), ("cut", 360, "none")])
def test_nearer_to_the_truth_than_colour_transfer(parts, colour_transfer, tmp_path, method, steps, norm):
    """At least 20 % over lesion and over skin apart."""
    options = TrainOptions(method, "tone", 64, steps, rate=1e-3, width=8, blocks=2, norm=norm, skip=True, identity=0.0,
                           augment="none", pool=20, ema=0.98, every=steps)
    train(parts[0], parts[1], options, tmp_path / "model")
    made = Translator(load_model(tmp_path / "model"))(pictures(parts[2]))
    found = against_truth([one.image for one in made], pictures(parts[3]))
    assert found.lesion <= 0.8 * colour_transfer[0], (found, colour_transfer)
    assert found.skin <= 0.8 * colour_transfer[1], (found, colour_transfer)
