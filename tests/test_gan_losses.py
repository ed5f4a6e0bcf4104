"""Losses against values computed by hand; networks against published sizes; the receptive field."""

import math

import pytest
import torch

from synthskin.gan import losses
from synthskin.gan.augment import diff_augment, symmetry
from synthskin.gan.cyclegan import ImagePool
from synthskin.gan.distance import sliced_wasserstein
from synthskin.gan.nets import BlurDown, BlurUp, PatchGAN, ResnetGenerator, UnetGenerator, count


def test_least_squares():
    answers = torch.tensor([[[[1.0, 0.5], [-1.0, 2.0]]]])
    assert float(losses.least_squares(answers, True)) == pytest.approx((0 + 0.25 + 4 + 1) / 4)
    assert float(losses.least_squares(answers, False)) == pytest.approx((1 + 0.25 + 1 + 4) / 4)


class Quadratic(torch.nn.Module):
    """Answer = sum of 0.5 c x^2 over the pixels, so its gradient is c x."""

    def __init__(self, c):
        super().__init__()
        self.c = torch.nn.Parameter(torch.tensor(float(c)))

    def forward(self, x):
        return 0.5 * self.c * (x**2).flatten(1).sum(1)


def test_gradient_penalty():
    """At share 1 the gradient is c x_real: with x = (3, 4) / 10 and c = 4 its norm is 2, the penalty 1; d/dc too."""
    real = torch.tensor([0.3, 0.4]).reshape(1, 1, 1, 2)
    fake = torch.tensor([-0.6, 0.8]).reshape(1, 1, 1, 2)
    critic = Quadratic(4.0)
    one = losses.gradient_penalty(critic, real, fake, torch.ones(1, 1, 1, 1))
    assert float(one) == pytest.approx((4 * 0.5 - 1) ** 2)
    half = losses.gradient_penalty(critic, real, fake, torch.full((1, 1, 1, 1), 0.5))
    norm = 4 * math.hypot(-0.15, 0.6)
    assert float(half) == pytest.approx((norm - 1) ** 2, rel=1e-5)
    one.backward()  # d/dc (c r - 1)^2 = 2 (c r - 1) r with r = 0.5
    assert float(critic.c.grad) == pytest.approx(2 * (4 * 0.5 - 1) * 0.5)


def test_patch_nce():
    """Two patches at right angles: each has its own key (product 1) and one negative (product 0)."""
    queries = torch.eye(2)[None]
    tau = 0.5
    alone = -math.log(math.exp(1 / tau) / (math.exp(1 / tau) + math.exp(0.0)))
    assert float(losses.patch_nce(queries, queries, tau)) == pytest.approx(alone, rel=1e-6)
    swapped = -math.log(math.exp(0.0) / (math.exp(1 / tau) + math.exp(0.0)))
    assert float(losses.patch_nce(queries, queries.flip(1), tau)) == pytest.approx(swapped, rel=1e-6)
    keys = torch.nn.functional.normalize(torch.randn(1, 4, 3), dim=-1).requires_grad_(True)
    losses.patch_nce(torch.nn.functional.normalize(torch.randn(1, 4, 3), dim=-1).requires_grad_(True), keys).backward()
    assert keys.grad is None  # keys carry no gradient


def test_focal():
    """p of the true class 0.8 and 0.3, gamma 2: -(0.2^2 ln 0.8 + 0.7^2 ln 0.3) / 2."""
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.7, 0.3]]))
    labels = torch.tensor([0, 1])
    wanted = -(0.2**2 * math.log(0.8) + 0.7**2 * math.log(0.3)) / 2
    assert float(losses.focal(logits, labels, 2.0)) == pytest.approx(wanted, rel=1e-6)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert float(losses.focal(logits, labels, 0.0)) == pytest.approx(float(plain), rel=1e-6)
    weighted = -(0.25 * 0.2**2 * math.log(0.8) + 0.75 * 0.7**2 * math.log(0.3)) / 2
    assert float(losses.focal(logits, labels, 2.0, torch.tensor([0.25, 0.75]))) == pytest.approx(weighted, rel=1e-6)


def test_feature_matching():
    """Layers differ by 1 and by 3 in one critic, by 2 in the other; answers (last) do not count."""
    zero = [torch.zeros(1, 1, 2, 2)] * 2 + [torch.zeros(1, 1, 1, 1)]
    one = [torch.full((1, 1, 2, 2), v) for v in (1.0, 3.0)] + [torch.full((1, 1, 1, 1), 99.0)]
    two = [torch.full((1, 1, 2, 2), v) for v in (2.0, 2.0)] + [torch.full((1, 1, 1, 1), 99.0)]
    assert float(losses.feature_matching([zero, zero], [one, two])) == pytest.approx((2.0 + 2.0) / 2)


def test_published_sizes():
    """pytorch-CycleGAN-and-pix2pix prints 11.378, 54.41 and 2.765 M; StarGAN's generator has 8.43 M."""
    assert count(ResnetGenerator()) == 11_378_179
    assert count(ResnetGenerator(filtered=True)) == 11_378_179  # the filters are fixed
    assert count(UnetGenerator()) / 1e6 == pytest.approx(54.41, abs=0.005)
    assert count(PatchGAN()) / 1e6 == pytest.approx(2.765, abs=0.0005)
    from synthskin.gan.cut import PatchProjections
    from synthskin.gan.stargan import ToneGenerator

    assert count(PatchProjections([3, 128, 256, 256, 256])) == 560_384  # "netF 0.560 M"
    assert count(ToneGenerator()) / 1e6 == pytest.approx(8.43, abs=0.005)


def receptive_field(net, side=160):
    """Rows of the picture that one answer in the middle depends on, by its gradient."""
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0), requires_grad=True)
    answer = net(x)
    middle = answer.shape[-1] // 2
    answer[0, 0, middle, middle].backward()
    touched = (x.grad[0].abs().sum(0) > 0).any(1).nonzero()
    return int(touched[-1] - touched[0] + 1)


def test_receptive_field():
    class NoNorm(PatchGAN):  # an instance norm looks at the whole picture; the convolutions see 70 pixels
        def __init__(self):
            super().__init__(4)
            for stage in self.stages:
                if isinstance(stage, torch.nn.Sequential):
                    for k, layer in enumerate(stage):
                        if isinstance(layer, torch.nn.InstanceNorm2d):
                            stage[k] = torch.nn.Identity()

    assert receptive_field(NoNorm()) == 70


def test_cut_layers_are_those_of_the_paper():
    """0 the pixels, 4 and 8 the two halving convolutions, 12 and 16 the first and the fifth residual block."""
    from synthskin.gan.cut import LAYERS
    from synthskin.gan.nets import ResnetBlock

    net = ResnetGenerator(4, 9, filtered=True)
    assert LAYERS == (0, 4, 8, 12, 16)
    assert isinstance(net.layers[0], torch.nn.ReflectionPad2d)
    assert all(isinstance(net.layers[k], torch.nn.Conv2d) and isinstance(net.layers[k + 3], BlurDown) for k in (4, 8))
    blocks = [k for k, layer in enumerate(net.layers) if isinstance(layer, ResnetBlock)]
    assert blocks[0] == 12 and blocks[4] == 16
    found = net(torch.rand(2, 3, 32, 32), LAYERS)
    assert [f.shape[1] for f in found] == [net.channels[k] for k in LAYERS]


def test_filters_keep_a_flat_picture():
    flat = torch.full((1, 2, 8, 8), 0.7)
    assert torch.allclose(BlurDown(2)(flat), torch.full((1, 2, 4, 4), 0.7))
    assert torch.allclose(BlurUp(2)(flat), torch.full((1, 2, 16, 16), 0.7))


def test_augmentation_is_repeatable_and_lets_gradients_pass():
    x = torch.rand(3, 3, 16, 16, requires_grad=True)

    def source():
        return torch.Generator().manual_seed(3)

    a, b = (diff_augment(x, ("colour", "translation", "cutout"), source()) for _ in range(2))
    assert torch.equal(a, b) and a.shape == x.shape and not torch.equal(a[0], x[0])
    a.sum().backward()
    assert x.grad.abs().sum() > 0
    assert diff_augment(x, (), source()) is x
    cut = diff_augment(torch.ones(4, 3, 16, 16), ("cutout",), source())
    assert set(cut.unique().tolist()) == {0.0, 1.0}
    turned = symmetry(torch.arange(16.0).reshape(1, 1, 4, 4).expand(8, 1, 4, 4), source())
    assert all(sorted(t.flatten().tolist()) == list(range(16)) for t in turned)


def test_image_pool():
    """The first fill the pool and are shown; later about half of those shown are older ones."""
    pool, source = ImagePool(4), torch.Generator().manual_seed(0)
    for k in range(4):
        assert float(pool.exchange(torch.full((1, 1, 1, 1), float(k)), source)) == k
    shown = [float(pool.exchange(torch.full((1, 1, 1, 1), float(k)), source)) for k in range(4, 204)]
    older = sum(value < k for k, value in enumerate(shown, start=4))
    assert 70 <= older <= 130 and len(pool.kept) == 4
    assert float(ImagePool(0).exchange(torch.ones(1, 1, 1, 1), source)) == 1


def test_sliced_wasserstein():
    a = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    b = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    same, shifted, further = (sliced_wasserstein(a, x) for x in (b, b + 0.2, b + 0.6))
    assert sliced_wasserstein(a, b) == same
    assert same < shifted < further
