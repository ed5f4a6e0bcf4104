"""Overlays, the colour space baseline, CIRCLe's loss and the dictionary transforms."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from torch.utils.data import DataLoader

from synthskin import hooks
from synthskin.hooks import (
    ArtefactOverlay,
    ColourSpaceShift,
    HairOverlay,
    InvarianceLoss,
    RandArtefactOverlayd,
    RandHairOverlayd,
    RandToneShiftd,
    ToneShift,
    ToneShiftd,
    collate,
)
from synthskin.hooks.baseline import hsv_to_rgb, rgb_to_hsv
from synthskin.hooks.colour import decode, lab
from synthskin.hooks.overlay import ARTEFACTS

torch.set_num_threads(1)
PHOTO = Path(__file__).parent / "data" / "photographs" / "ISIC_0000117.jpg"


@pytest.fixture(scope="module")
def photo():
    """(3, 96, 128) uint8."""
    return torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB").resize((128, 96)))).permute(2, 0, 1).contiguous()


def test_hair_lies_where_its_mask_says(photo):
    overlay = HairOverlay("fst5", count=(8, 8), pool=None)
    done = overlay(photo, key=3)
    change = (done.image.int() - photo.int()).abs().amax(0)
    covered = done.mask[0] > 0
    assert done.image.dtype == torch.uint8 and done.mask.shape == (1, 96, 128)
    assert 0.005 < covered.float().mean() < 0.4
    assert change[covered].float().median() > 25  # dark hair on light skin
    near = torch.nn.functional.max_pool2d(done.mask[None], 9, 1, 4)[0, 0] > 0
    assert change[~near].max() <= 1
    assert (done.image.int()[:, covered].sum(0) <= photo.int()[:, covered].sum(0) + 12).float().mean() > 0.99
    same = pickle.loads(pickle.dumps(overlay))(photo, key=3)
    assert torch.equal(same.image, done.image) and torch.equal(same.mask, done.mask)
    assert not torch.equal(overlay(photo, key=4).mask, done.mask)
    assert not torch.equal(overlay(photo).mask, overlay(photo).mask)  # the number of the call is the key
    assert HairOverlay(count=(0, 0))(photo).mask.sum() == 0


def test_hair_pool_turns_its_drawings(photo):
    overlay = HairOverlay("fst5", count=(6, 6), pool=2)
    masks = {overlay(photo, key=k).mask.numpy().tobytes() for k in range(40)}
    assert len(overlay._drawn) == 2 and 8 < len(masks) <= 16
    fresh = HairOverlay("fst5", count=(6, 6), pool=2)
    assert torch.equal(fresh(photo, key=7).image, overlay(photo, key=7).image)  # whatever was drawn before


@pytest.mark.parametrize("name", [n for n in ARTEFACTS if n != "blur"])
def test_each_artefact(photo, name):
    covers = []
    for key in range(6):
        done = ArtefactOverlay((name,))(photo / 255, key=key)
        assert torch.isfinite(done.image).all() and done.image.min() >= 0 and done.image.max() <= 1
        covers.append(float(done.mask.mean()))
        if covers[-1] > 0:
            where = done.mask[0] > 0
            assert (done.image - photo / 255).abs().amax(0)[where].mean() > 0.02
    assert max(covers) > 0


def test_ink_is_drawn_beside_the_lesion(photo):
    lesion = torch.zeros(1, 96, 128)
    lesion[:, 30:50, 80:100] = 1
    overlay = ArtefactOverlay(("ink",), field_of_view_mm=14)
    distances = []
    for key in range(8):
        cover = overlay(photo, key=key, mask=lesion).mask[0]
        y, x = torch.nonzero(cover, as_tuple=True)
        if len(y):
            distances.append(float(torch.hypot(y.float() - 40, x.float() - 90).median()))
    assert np.median(distances) < 35


def test_overlays_on_samples_and_batches(photo):
    sample = {"image": photo, "mask": None, "label": 1}
    haired = HairOverlay(pool=None)(sample, key=1)
    assert haired["label"] == 1 and haired["hair"].shape == (1, 96, 128)
    twice = HairOverlay(pool=None)(haired, key=2)
    assert twice["hair"].sum() > haired["hair"].sum() and (twice["hair"] >= haired["hair"]).all()
    batch = ArtefactOverlay(each=1.0)(photo[None].repeat(2, 1, 1, 1), key=5)
    assert batch.image.shape == (2, 3, 96, 128) and batch.mask.shape == (2, 1, 96, 128)
    assert not torch.equal(batch.mask[0], batch.mask[1])


@pytest.mark.parametrize(("make", "word"), [
    (lambda: HairOverlay(count=(5, 2)), "count="), (lambda: HairOverlay(field_of_view_mm=90), "field_of_view_mm="),
    (lambda: HairOverlay(pool=0), "pool="), (lambda: ArtefactOverlay(("rulers",)), "allowed are ruler"),
    (lambda: ArtefactOverlay(()), "no artefacts"), (lambda: ArtefactOverlay(each=0), "each="),
    (lambda: HairOverlay(seed=-1), "seed="), (lambda: InvarianceLoss(-1), "weight="),
    (lambda: RandToneShiftd("image", to=(10, -10)), "to="), (lambda: RandToneShiftd("image", to=["fst9"]), "to="),
    (lambda: HairOverlay(count=30), r"count=30: a pair \(fewest, most\) of whole numbers >= 0"),
    (lambda: HairOverlay(count=-1), "count=-1: a pair"), (lambda: HairOverlay(count=(-1, 3)), r"count=\(-1, 3\)"),
    (lambda: HairOverlay(count=(1.5, 3)), "a pair"), (lambda: HairOverlay(count=(1, 2, 3)), "a pair"),
    (lambda: HairOverlay(count="30"), "a pair"), (lambda: HairOverlay(count=(0, 401)), "at most 400"),
    (lambda: hooks.RandHairOverlayd("image", count=5), "a pair"), (lambda: HairOverlay(pool="x"), "pool='x'"),
    (lambda: HairOverlay(pool=2.5), "pool=2.5"), (lambda: HairOverlay(seed=0.5), "seed=0.5"),
    (lambda: HairOverlay(field_of_view_mm="14"), "field_of_view_mm='14'"), (lambda: HairOverlay(3), "preset=3"),
    (lambda: ArtefactOverlay("ruler"), "names='ruler': a list of names"), (lambda: ArtefactOverlay(3), "names=3"),
    (lambda: ArtefactOverlay(each="x"), "each='x'"), (lambda: RandToneShiftd("image", to=5.0), "to=5.0"),
])
def test_refusals(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_hsv_round_trip():
    rgb = torch.rand(2, 3, 20, 20)
    assert torch.allclose(hsv_to_rgb(rgb_to_hsv(rgb)), rgb, atol=1e-5)
    import colorsys

    for pixel in rgb[0].flatten(1).T[:20]:
        ours = rgb_to_hsv(pixel[None, :, None, None])[0, :, 0, 0]
        assert np.allclose(ours.numpy(), colorsys.rgb_to_hsv(*pixel.tolist()), atol=1e-5)


def test_colour_space_shift_reaches_the_tone_and_recolours_all(photo):
    big = torch.nn.functional.interpolate(photo[None].float(), scale_factor=2)[0] / 255
    for to in (40.0, 0.0, -40.0):
        toned = ColourSpaceShift(to=to)(big)
        assert abs(float(toned.ita_deg) - to) < 4
    # the ruler's white becomes as dark as the skin does; ToneShift leaves it much lighter
    marked = big.clone()
    marked[:, :20, :30] = 0.92
    cheap = ColourSpaceShift(to=-40.0)(marked).image[:, 5:15, 5:25]
    optical = ToneShift(to=-40.0)(marked).image[:, 5:15, 5:25]
    lightness = [float(lab(decode(p).movedim(0, -1))[..., 0].mean()) for p in (cheap, optical)]
    assert lightness[1] > lightness[0] + 8


def test_invariance_loss():
    a, b = torch.randn(4, 7, requires_grad=True), torch.randn(4, 7, requires_grad=True)
    loss = InvarianceLoss(0.1)(a, b)
    assert np.isclose(float(loss), 0.1 * np.mean(np.sum((a - b).detach().numpy() ** 2, 1)), rtol=1e-5)
    loss.backward()
    assert torch.allclose(a.grad, -b.grad) and a.grad.abs().sum() > 0
    assert float(InvarianceLoss()(a, a)) == 0
    with pytest.raises(ValueError, match="two of"):
        InvarianceLoss()(a, b[:2])


def test_dictionary_tone_shift(photo):
    sample = {"image": photo / 255, "mask": None, "label": 2, "meta_json": "{}"}
    done = ToneShiftd(keys="image", to="fst5")(sample)
    assert torch.equal(done["image"], ToneShift("fst5")(photo / 255).image) and done["label"] == 2
    held = ToneShiftd(keys=["image"], to="fst5")({"image": MetaTensor(photo / 255, meta={"name": "x"})})
    assert isinstance(held["image"], MetaTensor) and held["image"].meta["name"] == "x"
    assert torch.allclose(held["image"].as_tensor(), done["image"])
    with pytest.raises(KeyError):
        ToneShiftd(keys="picture", to="fst5")(sample)
    assert ToneShiftd(keys="picture", to="fst5", allow_missing_keys=True)(sample)["label"] == 2


def test_random_dictionary_transforms(photo):
    sample = {"image": photo / 255, "mask": torch.zeros(1, 96, 128), "label": 2, "meta_json": "{}"}
    tone = RandToneShiftd(keys="image", to=(-40, 40), prob=0.5)
    tone.set_random_state(0)
    reached = [float(tone(sample)["ita_reached_deg"]) for _ in range(12)]
    done = [value for value in reached if not np.isnan(value)]
    assert 2 < len(done) < 11 and all(-45 < value < 45 for value in done) and len(set(done)) == len(done)
    again = RandToneShiftd(keys="image", to=(-40, 40), prob=0.5)
    again.set_random_state(0)
    assert np.allclose([float(again(sample)["ita_reached_deg"]) for _ in range(12)], reached, equal_nan=True)
    named = RandToneShiftd(keys="image", to=["fst6"], prob=1.0)
    assert float(named(sample)["ita_reached_deg"]) < -35
    chain = Compose([
        RandToneShiftd(keys="image", to=["fst5", "fst6"], prob=0.5),
        RandHairOverlayd(keys="image", prob=0.5, count=(2, 4), pool=4),
        RandArtefactOverlayd(keys="image", prob=0.5),
        hooks.RandColourSpaceShiftd(keys="image", prob=0.2),
    ]).set_random_state(7)
    chain = pickle.loads(pickle.dumps(chain))
    batch = collate([chain(sample) for _ in range(6)])
    assert batch["hair"].shape == batch["artefact"].shape == (6, 1, 96, 128)
    assert batch["hair"].sum() > 0 and batch["ita_reached_deg"].shape == (6,)
    assert hooks.HairOverlayd(keys="image", pool=2)(sample)["hair"].sum() > 0
    assert hooks.ArtefactOverlayd(keys="image", each=1.0)(sample)["artefact"].sum() > 0
    assert float(hooks.ColourSpaceShiftd(keys="image", to=0)(sample)["ita_reached_deg"]) < 10


class Photos(torch.utils.data.Dataset):
    """Six times the same sample, through an overlay."""

    def __init__(self, image):
        self.image, self.overlay = image, HairOverlay(count=(3, 6), pool=None)

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return self.overlay({"image": self.image, "mask": None, "label": None})


def test_workers_do_not_repeat_each_other(photo):
    small = photo[:, :48, :48].contiguous()
    loader = DataLoader(Photos(small), 1, num_workers=2, collate_fn=collate, generator=torch.Generator().manual_seed(3),
                        multiprocessing_context=multiprocessing.get_context("fork"))
    first, second = ([batch["hair"].numpy().tobytes() for batch in loader] for _ in range(2))
    assert len(set(first)) == 6 and not set(first) & set(second)
    loader = DataLoader(Photos(small), 1, num_workers=2, collate_fn=collate, generator=torch.Generator().manual_seed(3),
                        multiprocessing_context=multiprocessing.get_context("fork"))
    assert [batch["hair"].numpy().tobytes() for batch in loader] == first


def test_monai_loader(photo):
    data = MonaiDataset([{"image": photo / 255, "label": k} for k in range(4)],
                        RandToneShiftd(keys="image", to=["fst2", "fst6"], prob=1.0))
    batch = next(iter(MonaiLoader(data, batch_size=4)))
    assert batch["image"].shape == (4, 3, 96, 128) and batch["ita_reached_deg"].shape == (4,)


def test_names():
    assert set(hooks.__all__) == set(dir(hooks))
    for name in hooks.__all__:
        assert getattr(hooks, name).__doc__
    with pytest.raises(AttributeError, match="there are ArtefactOverlay"):
        hooks.ToneShifter  # noqa: B018
