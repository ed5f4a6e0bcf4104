"""ToneShift: the table against the model, the truth on layered skin, and what must not change."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from synthskin.hooks import colour, regions
from synthskin.hooks.tone import TONE_NAMES, ToneShift, find_regions, parse_tone
from synthskin.hooks.tone_table import load_table
from synthskin.physics import flat_skin, lesion_colour, spectral
from synthskin.preset import load_preset
from synthskin.record import Skin

torch.set_num_threads(1)
PHOTOS = sorted((Path(__file__).parent / "data" / "photographs").glob("*.jpg"))


def median_skin(name):
    fields = load_preset(name).fields
    return Skin(**{key.split(".")[1]: law.inverse_cdf(0.5) for key, law in fields.items() if key.startswith("skin.")})


def picture(skin, size=96, blood=1.0, mottle=0.1):
    """(size, size, 3) linear: a round lesion of 0 ... 12 um of melanin on `skin`, by adding-doubling alone."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = np.clip(1 - (np.hypot(x, y * 1.2) / 0.3) ** 2, 0, 1) ** 0.7
    network = 0.6 + 0.4 * np.sin(x * 90) * np.sin(y * 90)
    lesion = (6 * inside * network).astype(np.float32).ravel()
    own = 1 + mottle * np.sin(x * 40 + 1) * np.cos(y * 33)
    skins = [replace(skin, melanosome_fraction=skin.melanosome_fraction * f) for f in (1 - mottle, 1 + mottle)]
    tones = [lesion_colour.build_table(s, 120.0, (9, 9, 1), [0.5, blood, 3.0], (12.0, 12.0, 1.0)) for s in skins]
    low, high = (t.xyz(lesion, lesion, 0 * lesion, 0 * lesion + blood).reshape(size, size, 3) for t in tones)
    share = ((own - 1) / mottle * 0.5 + 0.5)[..., None] if mottle else 0.5
    return spectral.xyz_to_linear_srgb(low * (1 - share) + high * share), inside > 0.02


def encoded(linear):
    x = np.clip(linear, 0, 1)
    return (np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255 + 0.5).astype(np.uint8)


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def array(image):
    return image.permute(1, 2, 0).numpy()


def own_ita(image, where):
    """ITA of the mean colour, by scikit-image."""
    srgb = image[where] / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).mean(0)
    mean = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab = rgb2lab(mean[None, None])[0, 0]
    return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))


def test_colour_agrees_with_scikit_image():
    rgb = np.random.default_rng(0).random((50, 3))
    ours = colour.lab(colour.decode(torch.tensor(rgb))).numpy()
    assert np.abs(ours - rgb2lab(rgb[None])[0]).max() < 0.05  # white points differ in the fourth digit
    back = colour.encode(colour.linear_of_lab(colour.lab(colour.decode(torch.tensor(rgb))))).numpy()
    assert np.abs(back - rgb).max() < 1e-3


def test_table_is_the_model():
    """Shipped colours against adding-doubling of skins that are not its nodes."""
    table = load_table()
    for name in ("fst2", "fst4", "fst6"):
        skin = median_skin(name)
        ita = flat_skin.ita_of_skin(skin)
        tone = torch.tensor((65 - ita) / 5)
        log_rgb = table.colour(tone, torch.tensor(float(table.bare)), torch.tensor(0.0))
        assert abs(float(colour.ita_deg(log_rgb.exp())) - ita) < 1.0
        column = skin.melanosome_fraction * skin.epidermis_thickness_um
        assert abs(float(table.melanin(tone[None])) / column - 1) < 0.08


def test_inverse_of_the_table():
    table = load_table()
    pigment = torch.tensor([0.5, 3.0, 6.0, 6.4, 9.0, 15.0, 22.0])
    ratio, added = table.split(pigment)
    assert (ratio <= 0).all() and (added >= 0).all()
    assert torch.allclose(table.join(ratio, added), pigment, atol=1e-3)
    # colours of the model are explained by the pigment and blood that made them
    tone = torch.tensor([4.0, 12.0])
    for t in tone:
        want = torch.tensor([7.0, 12.0, 18.0, 22.0])
        blood = torch.tensor([0.0, 0.4, -0.3, 0.2])
        srgb = colour.encode(table.colour(t, want, blood).exp())
        found, log_blood = table.explain(t[None])
        n = table.nodes
        at = (srgb * (2 / 1.25) - 1).flip(-1).reshape(1, -1, 1, 1, 3)
        both = torch.stack([found.reshape(n, n, n), log_blood.reshape(n, n, n)])[None]
        seen = torch.nn.functional.grid_sample(both, at, align_corners=True)[0, :, :, 0, 0]
        assert (seen[0] - want).abs().max() < 1.5
        assert (seen[1] - blood).abs().max() < 0.35


@pytest.mark.parametrize(("source", "target"), [("fst2", "fst5"), ("fst5", "fst2"), ("fst1", "fst6"), ("fst4", "fst3")])
@pytest.mark.parametrize("given", [True, False])
def test_truth_on_layered_skin(source, target, given):
    """The lesion of one skin put on another skin by the model itself; the tool sees only the first picture."""
    first, where = picture(median_skin(source))
    truth, _ = picture(median_skin(target))
    first, truth = encoded(first), encoded(truth)
    to = own_ita(truth, ~where)
    toned = ToneShift(to=to)(tensor(first), torch.from_numpy(where) if given else None)
    delta = deltaE_ciede2000(rgb2lab(array(toned.image)), rgb2lab(truth))
    before = deltaE_ciede2000(rgb2lab(first), rgb2lab(truth))
    assert delta.mean() < 3.0, delta.mean()
    assert delta[where].mean() < 4.0
    assert delta.mean() < 0.4 * before.mean()
    assert abs(own_ita(array(toned.image), ~where) - to) < 2.0
    assert abs(float(toned.ita_deg) - own_ita(array(toned.image), ~where)) < 3.0


def test_shift_to_the_same_tone_changes_little():
    first, where = picture(median_skin("fst3"))
    first = encoded(first)
    toned = ToneShift(to=own_ita(first, ~where))(tensor(first), torch.from_numpy(where))
    assert deltaE_ciede2000(rgb2lab(array(toned.image)), rgb2lab(first)).max() < 2.5


@pytest.mark.parametrize("gains", [(1.0, 1.0, 1.0), (1.25, 1.1, 1.0), (0.85, 0.95, 1.05), (1.5, 1.4, 1.5)])
def test_tone_reached_under_other_cameras(gains):
    """White balance and exposure off: the tone asked for is there, by an independent measurement."""
    linear, where = picture(median_skin("fst2"))
    first = encoded(linear * np.array(gains))
    for name in TONE_NAMES:
        toned = ToneShift(to=name)(tensor(first), torch.from_numpy(where))
        assert abs(own_ita(array(toned.image), ~where) - parse_tone(name)) < 5.0, name
        assert 0 <= float(toned.cast_kept) <= 1


def test_lesion_keeps_its_added_melanin():
    """On dark skin the lesion stays darker than the skin, with less contrast; structure survives."""
    first, where = picture(median_skin("fst2"), mottle=0)
    first = encoded(first)
    dark = array(ToneShift(to="fst6")(tensor(first), torch.from_numpy(where)).image)
    middle = np.zeros_like(where)
    middle[44:52, 44:52] = True
    contrast = [rgb2lab(p)[~where][:, 0].mean() - rgb2lab(p)[middle][:, 0].mean() for p in (first, dark)]
    assert 2 < contrast[1] < 0.6 * contrast[0]
    assert np.corrcoef(rgb2lab(first)[where][:, 0], rgb2lab(dark)[where][:, 0])[0, 1] > 0.95


def test_hair_and_surround_stay():
    linear, _ = picture(median_skin("fst2"), size=192, mottle=0)
    first = encoded(linear)
    y, x = np.mgrid[:192, :192]
    hair = (np.abs(y - 0.7 * x - 20) < 1.5) | (np.abs(y + 0.4 * x - 185) < 1.5)
    black = np.hypot(x - 95.5, y - 95.5) > 96
    first[hair] = (30, 22, 20)
    first[black] = (6, 5, 5)
    for to in ("fst6", "fst4"):
        out = array(ToneShift(to=to)(tensor(first)).image).astype(int)
        assert np.abs(out[black] - first[black]).max() <= 2
        change = np.abs(out[hair & ~black] - first[hair & ~black]).max(1)
        assert np.percentile(change, 80) <= 6
    # from dark skin to pale skin black hair stays black
    linear, _ = picture(median_skin("fst6"), size=192, mottle=0)
    first = encoded(linear)
    first[hair] = (18, 14, 12)
    first[black] = (6, 5, 5)
    out = array(ToneShift(to="fst2")(tensor(first)).image).astype(int)
    assert np.abs(out[black] - first[black]).max() <= 4
    skin = out[~hair & ~black].mean()
    assert np.percentile(out[hair & ~black].mean(1), 80) < 0.45 * skin


def test_regions():
    linear, where = picture(median_skin("fst2"), size=128)
    first = tensor(encoded(linear))[None] / 255.0
    found = find_regions(first, None)
    guess = found.lesion[0, 0].numpy() > 0.5
    assert (guess & where).sum() / (guess | where).sum() > 0.7
    assert found.surround.max() == 0
    assert not ((found.healthy[0, 0].numpy() > 0) & (linear.mean(-1) < 0.25)).any()
    bare = torch.full((1, 3, 64, 64), 0.7)
    assert regions.otsu_lesion(bare, torch.ones(1, 1, 64, 64)).max() == 0  # nothing to find, nothing found
    assert regions.hair(bare, regions.closed(bare)).max() == 0
    x = torch.rand(2, 3, 40, 30)
    for radius in (1, 2, 5):
        assert torch.equal(regions.dilate(x, radius), torch.nn.functional.max_pool2d(x, 2 * radius + 1, 1, radius))


def test_batch_single_types_and_pickle():
    first, where = picture(median_skin("fst3"), size=64)
    second, _ = picture(median_skin("fst5"), size=64)
    batch = torch.stack([tensor(encoded(p)) for p in (first, second)] * 3)
    mask = torch.from_numpy(where).float()
    shift = pickle.loads(pickle.dumps(ToneShift(to="fst4")))
    whole = shift(batch, mask[None, None].expand(6, 1, 64, 64))
    assert whole.image.dtype == torch.uint8 and whole.image.shape == batch.shape and whole.ita_deg.shape == (6,)
    for i in range(6):
        one = shift(batch[i], mask)
        assert (one.image.int() - whole.image[i].int()).abs().max() <= 1
    floats = shift(batch / 255, mask)
    assert floats.image.dtype == torch.float32
    assert ((floats.image * 255).round().int() - whole.image.int()).abs().max() <= 1
    goal = torch.tensor([50.0, 20, -20, 50, 20, -20])
    each = shift(batch, mask, goal)
    assert (each.ita_deg - goal).abs().max() < 3
    sample = shift({"image": batch[0], "mask": mask[None], "label": 3})
    assert sample["label"] == 3 and torch.equal(sample["image"], shift(batch[0], mask).image)
    assert abs(float(sample["ita_reached_deg"]) - parse_tone("fst4")) < 3
    unknown = torch.stack([mask[None], torch.full((1, 64, 64), torch.nan)])
    assert torch.isfinite(shift(batch[:2] / 255, unknown).image).all()
    called = ToneShift(to=0, mask=lambda pictures: torch.zeros_like(pictures[:, :1]))
    assert torch.isfinite(called(batch).ita_deg).all()


@pytest.mark.parametrize("to", ["fst7", 90, -70.0, True, float("nan")])
def test_refuses_a_tone(to):
    with pytest.raises(ValueError, match=r"to=.*fst1.*|to=.*degrees"):
        ToneShift(to=to)


def test_refuses_pictures():
    shift = ToneShift(to=0)
    for bad in (torch.zeros(1, 32, 32), torch.zeros(3, 8, 8), torch.zeros(3, 32, 32, dtype=torch.int64),
                torch.randn(3, 32, 32), np.zeros((32, 32, 3))):
        with pytest.raises(ValueError, match="needed"):
            shift(bad)
    with pytest.raises(ValueError, match="does not fit"):
        shift(torch.zeros(3, 32, 32), torch.zeros(16, 16))
    with pytest.raises(ValueError, match="no tone"):
        ToneShift()(torch.zeros(3, 32, 32))


@pytest.mark.parametrize("path", PHOTOS, ids=[p.stem for p in PHOTOS])
def test_photographs(path):
    """Real pictures without masks: tone asked for, lesion structure kept. More in benchmarks/hooks_tone_real.py."""
    photo = np.asarray(Image.open(path).convert("RGB"))
    found = find_regions(tensor(photo)[None] / 255.0, None)
    lesion = found.lesion[0, 0].numpy() > 0.5
    assert 0.02 < lesion.mean() < 0.8
    side = found.healthy.shape[-2:]
    healthy = np.asarray(Image.fromarray(found.healthy[0, 0].numpy() > 0).resize(photo.shape[1::-1]))
    assert min(side) == 128
    for to in ("fst2", "fst4", "fst6"):
        out = array(ToneShift(to=to)(tensor(photo)).image)
        assert abs(own_ita(out, healthy) - parse_tone(to)) < 5


def test_there_are_photographs():
    assert len(PHOTOS) >= 3
