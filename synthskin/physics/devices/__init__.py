"""Device profiles: what a camera and its software make of linear light. Named TOML files beside this one.

In order: exposure and the light's colour that was not balanced, stray light, fall-off of the lens, sensor noise and
saturation, noise reduction, the device's colour matrix and saturation, what that puts outside sRGB brought back, tone
curve on the sRGB scale, sharpening, 8 bits, JPEG.
Nothing moves, so every mask stays exact. The profile `colourimetric` does none of it.
"""

from __future__ import annotations

import io
import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

from synthskin.physics import spectral
from synthskin.physics.noise import keyed_rng
from synthskin.record import Device, SampleRecord

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)
D65_MIRED: Final = 153.75  # 1e6 / 6504 K
LIGHT_SKIN: Final = np.array([0.441, 0.289, 0.216])  # linear, over a white tile's; as renders of fst1 to fst3 have it
#: Colours outside sRGB are brought back, not cut (a cut leaves the blue of brown lesions at 0). A channel's distance
#: from the largest, over that, stays up to the threshold; from there to the limit it is drawn in to reach 1 (the curve
#: of the ACES reference gamut compression, Academy 2020; numbers by design).
GAMUT_THRESHOLD: Final = 0.8
GAMUT_LIMIT: Final = 1.3
GAMUT_POWER: Final = 1.2
_GAMUT_SCALE: Final = (GAMUT_LIMIT - GAMUT_THRESHOLD) / (
    ((1 - GAMUT_THRESHOLD) / (GAMUT_LIMIT - GAMUT_THRESHOLD)) ** -GAMUT_POWER - 1) ** (1 / GAMUT_POWER)
_FOLDER: Final = Path(__file__).parent


class ProfileError(ValueError):
    """A device profile cannot be read. One line."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One device.

    name                    unit    meaning
    exposure_ev             stops   its habit, over the exposure of a white tile
    white_balance_mired     mired   light it leaves unbalanced; positive is warmer
    tint                    log2    loss of the green gain (positive: magenta)
    stray_light             -       veiling glare (ISO 9358): share of the mean light that glass and lens spread over
                                    the whole picture; 0.01-0.05 is usual
    vignette_half_angle_deg deg     half field of the lens; light falls as cos^4 towards the corners
    shot_noise, read_noise  -       variance of the linear value x is shot_noise x + read_noise (Foi et al. 2008)
    grain_px, denoise_px    px      correlation of the noise (demosaicing, film), and the noise reduction's blur
    chroma_blur_px          px      extra blur of the colour differences (chroma subsampling of video)
    matrix                  -       3 x 3 on linear sRGB; rows sum to 1, so that white stays
    saturation              -       factor on the distance from grey
    tone                    -       points (in, out) of the curve on the sRGB scale, monotone between (PCHIP)
    sharpening, radius_px   -, px   unsharp mask on luminance
    jpeg_quality            -       0 = not compressed
    jpeg_subsampling        -       0 = 4:4:4, 2 = 4:2:0
    native_px               px      side of the sensor's picture; 0: sizes in px are those of the finished picture
    source                          citation, or 'by design'

    A picture smaller than the sensor's is the sensor's picture resized: noise averages out over the pixels that are
    joined, and what is given in px shrinks with them.
    """

    description: str
    source: str
    exposure_ev: float = 0.0
    white_balance_mired: float = 0.0
    tint: float = 0.0
    stray_light: float = 0.0
    vignette_half_angle_deg: float = 0.0
    shot_noise: float = 0.0
    read_noise: float = 0.0
    grain_px: float = 0.0
    denoise_px: float = 0.0
    chroma_blur_px: float = 0.0
    matrix: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    saturation: float = 1.0
    tone: tuple[tuple[float, ...], ...] = ((0.0, 0.0), (1.0, 1.0))
    sharpening: float = 0.0
    sharpening_radius_px: float = 1.0
    jpeg_quality: int = 0
    jpeg_subsampling: int = 0
    native_px: int = 0

    @property
    def mixes_colours(self) -> bool:
        """Can it take a colour out of sRGB?"""
        return self.saturation != 1.0 or self.matrix != Profile("", "").matrix

    def at(self, size_px: int) -> Profile:
        """The profile for a finished picture of `size_px`, resized from `native_px` if that is larger."""
        scale = size_px / self.native_px if self.native_px > size_px else 1.0
        if scale == 1.0:
            return self
        # correlated noise averages less: over its correlation length there is nothing to average
        kept = min(1.0, scale * max(1.0, 2 * np.sqrt(np.pi) * max(self.grain_px, self.denoise_px))) ** 2
        quality = self.jpeg_quality and round(100 - (100 - self.jpeg_quality) * scale)
        return replace(
            self, shot_noise=self.shot_noise * kept, read_noise=self.read_noise * kept, jpeg_quality=quality,
            **{name: getattr(self, name) * scale
               for name in ("grain_px", "denoise_px", "chroma_blur_px", "sharpening_radius_px")},
        )


@cache
def profile(name: str) -> Profile:
    """The profile of that name; raises ProfileError naming the file and what is wrong."""
    path = _FOLDER / f"{name}.toml"
    try:
        return read_profile(path.read_text(encoding="utf-8"))
    except OSError:
        raise ProfileError(f"device profile '{name}': {path} is not there") from None
    except ValueError as error:
        raise ProfileError(f"{path}: {error}") from None


def read_profile(text: str) -> Profile:
    """Profile of a TOML text; raises ValueError on an unknown key, a wrong type, or numbers that make no sense."""
    data: dict[str, Any] = tomllib.loads(text)
    known = {f.name: f for f in fields(Profile)}
    for key, value in data.items():
        if key not in known:
            raise ProfileError(f"unknown key '{key}'; allowed are {', '.join(known)}")
        default = known[key].default
        kind = type(default) if isinstance(default, (float, int, tuple)) else str
        if kind is tuple:
            try:
                array = np.array(value, np.float64)
            except ValueError:
                raise ProfileError(f"{key} is a table of numbers") from None
            if array.ndim != 2 or not np.isfinite(array).all():
                raise ProfileError(f"{key} is a table of finite numbers")
            data[key] = tuple(tuple(float(x) for x in row) for row in array)
        elif kind is str:
            if not isinstance(value, str) or not value.strip():
                raise ProfileError(f"{key} is a text")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ProfileError(f"{key} = {value!r}: a finite number is needed")
        else:
            data[key] = int(value) if isinstance(default, int) else float(value)
    for key in ("description", "source"):
        if key not in data:
            raise ProfileError(f"the key '{key}' is missing")
    made = Profile(**data)
    matrix, tone = np.array(made.matrix), np.array(made.tone)
    if matrix.shape != (3, 3) or not np.allclose(matrix.sum(1), 1, atol=1e-6):
        raise ProfileError("matrix: 3 rows of 3 numbers that sum to 1 are needed")
    rising = tone.shape[1] == 2 and (np.diff(tone, axis=0) > 0).all() and ((tone >= 0) & (tone <= 1)).all()
    if not rising or tone[0, 0] != 0 or tone[-1, 0] != 1:
        raise ProfileError("tone: points [in, out] that rise from in = 0 to in = 1, inside 0 to 1, are needed")
    if not -110 <= made.white_balance_mired <= 150:
        raise ProfileError("white_balance_mired: -110 to 150 is allowed")
    if not 0 <= made.stray_light <= 0.5:
        raise ProfileError("stray_light: 0 to 0.5 is allowed")
    for key in ("shot_noise", "read_noise", "grain_px", "denoise_px", "chroma_blur_px", "sharpening", "saturation",
                "native_px"):
        if getattr(made, key) < 0:
            raise ProfileError(f"{key} must not be negative")
    if not (made.jpeg_quality == 0 or 20 <= made.jpeg_quality <= 100) or made.jpeg_subsampling not in (0, 1, 2):
        raise ProfileError("jpeg_quality is 0 or 20 to 100, jpeg_subsampling 0, 1 or 2")
    return made


def is_colourimetric(device: Device) -> bool:
    """Is a picture of this device comparable with `ita_deg`?"""
    return (device.profile == "colourimetric"
            and device.exposure_ev == device.white_balance_mired == device.tint == device.auto_white_balance == 0.0)


def planckian_xy(temperature_k: float) -> tuple[float, float]:
    """Chromaticity of a black body, 2222 to 25000 K (cubic fits of Kim et al. 2002, US patent 7024034)."""
    t = 1e3 / temperature_k
    if temperature_k < 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
        return x, -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    return x, 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483


def light_gains(mired: float, tint: float) -> F32:
    """Gains (3,) on linear sRGB of light `mired` warmer than D65 that nobody balanced; luminance of white stays 1.

    -110 to 150 mired: 22 900 to 3 290 K, where the fit of the locus holds.
    """

    def rgb(reciprocal: float) -> NDArray[np.float64]:
        x, y = planckian_xy(1e6 / reciprocal)
        return np.asarray(spectral.xyz_to_linear_srgb(np.array([x / y, 1.0, (1 - x - y) / y])))

    gains = rgb(D65_MIRED + mired) / rgb(D65_MIRED) * np.array([1.0, 2.0**-tint, 1.0])
    return (gains / (gains @ LUMINANCE)).astype(np.float32)


def balance(device: Device) -> F32:
    """Gains (3,) on linear sRGB of what the sample's camera did not balance, or balanced too much; a white tile's
    luminance stays 1.

    A camera without a white tile takes what fills its frame for grey (Buchsbaum 1980). Here that is light skin, in part
    (`auto_white_balance`), whatever skin is there: the picture decides nothing, so siblings of a sweep share the gains.
    """
    gains = light_gains(device.white_balance_mired, device.tint) * LIGHT_SKIN ** -device.auto_white_balance
    return np.asarray(gains / (gains @ LUMINANCE), np.float32)


def into_gamut(x: F32) -> F32:
    """Linear sRGB (..., 3) with colours that lie outside, and those next to them, drawn towards grey."""
    most = np.maximum(x.max(axis=-1, keepdims=True), np.float32(1e-6))
    beyond = np.maximum((most - x) / most - np.float32(GAMUT_THRESHOLD), 0) * np.float32(1 / _GAMUT_SCALE)
    drawn = beyond * (1 + beyond ** np.float32(GAMUT_POWER)) ** np.float32(-1 / GAMUT_POWER)
    return np.asarray(x + most * np.float32(_GAMUT_SCALE) * (beyond - drawn), np.float32)


def out_of_gamut(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `into_gamut` made x (..., 3) of; what had been cut to 0 is taken for a colour at the limit."""
    most = np.maximum(x.max(axis=-1, keepdims=True), 1e-6)
    drawn = np.maximum((most - x) / most - GAMUT_THRESHOLD, 0) / _GAMUT_SCALE
    beyond = drawn * (1 - drawn**GAMUT_POWER) ** (-1 / GAMUT_POWER)
    return np.asarray(x - most * _GAMUT_SCALE * (beyond - drawn), np.float64)


def develop(linear: F32, record: SampleRecord) -> F32:
    """sRGB-encoded picture (size, size, 3) in 0..1 of a linear one, before the 8 bits of `compress`."""
    device, size = record.device, linear.shape[0]
    made = profile(device.profile).at(size)
    x: Any = linear * balance(device)
    x = x * light_gains(made.white_balance_mired, made.tint)
    x = x * np.float32(2.0 ** (device.exposure_ev + made.exposure_ev))
    if made.stray_light:
        x = x + np.float32(made.stray_light) * (x.mean(axis=(0, 1)) - x)
    if made.vignette_half_angle_deg:
        x = x * _cos4(size, made.vignette_half_angle_deg)[..., None]
    x = _noisy(x, record, made)
    x = np.clip(x, 0, 1)  # the sensor's full well
    if made.denoise_px > 0.2:
        x = gaussian_filter(x, (made.denoise_px, made.denoise_px, 0), mode="nearest")
    x = x @ np.array(made.matrix, np.float32).T
    grey = (x @ LUMINANCE)[..., None]
    x = grey + np.float32(made.saturation) * (x - grey)
    if made.mixes_colours:
        x = into_gamut(x)
    table = _curve(made.tone)
    x = table.take((np.clip(x, 0, 1) * np.float32(len(table) - 1) + np.float32(0.5)).astype(np.int32))
    if made.chroma_blur_px > 0.2:
        grey = (x @ LUMINANCE)[..., None]
        x = grey + gaussian_filter(x - grey, (made.chroma_blur_px, made.chroma_blur_px, 0), mode="nearest")
    if made.sharpening and made.sharpening_radius_px > 0.2:
        grey = x @ LUMINANCE
        x = x + np.float32(made.sharpening) * (grey - gaussian_filter(grey, made.sharpening_radius_px))[..., None]
    return np.asarray(np.clip(x, 0, 1), np.float32)


def undevelop(image: U8, device: Device, made: Profile | None = None) -> NDArray[np.float64]:
    """Linear light (h, w, 3) over a white tile's of a finished picture: curve, colours, lens, exposure, balance undone.

    `made` replaces the profile that `device` names. Noise, blur and sharpening stay, and the lens where the picture is
    not square; what was clipped is lost. Stray light is reckoned from the picture's mean: give the whole of it.
    """
    made = profile(device.profile) if made is None else made
    table = _curve(made.tone)
    levels = np.interp(np.arange(256) / 255, table, np.linspace(0, 1, len(table)))
    x = out_of_gamut(levels[image]) if made.mixes_colours else levels[image]
    grey = (x @ LUMINANCE)[..., None]
    x = (grey + (x - grey) / max(made.saturation, 0.05)) @ np.linalg.inv(np.array(made.matrix)).T
    if made.vignette_half_angle_deg and image.shape[0] == image.shape[1]:
        x = x / _cos4(image.shape[0], made.vignette_half_angle_deg)[..., None]
    if made.stray_light:
        x = np.maximum(x - made.stray_light * x.mean(axis=(0, 1)), 0) / (1 - made.stray_light)
    gains = balance(device) * light_gains(made.white_balance_mired, made.tint)
    return np.asarray(x / (gains * 2.0 ** (device.exposure_ev + made.exposure_ev)), np.float64)


def compress(image: U8, record: SampleRecord) -> U8:
    """The picture after JPEG and back, if the profile compresses."""
    made = profile(record.device.profile).at(image.shape[0])
    if not made.jpeg_quality:
        return image
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=made.jpeg_quality, subsampling=made.jpeg_subsampling)
    return np.asarray(Image.open(out).convert("RGB"), np.uint8)


@cache
def _curve(tone: tuple[tuple[float, ...], ...]) -> F32:
    """sRGB encoding, then the tone curve, at 2^16 linear values from 0 to 1: steps under 0.06 of 1/255."""
    x = np.linspace(0, 1, 2**16)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055)
    points = np.array(tone)
    table = PchipInterpolator(points[:, 0], points[:, 1])(encoded).astype(np.float32)
    table.setflags(write=False)
    return np.asarray(table, np.float32)


def _cos4(size: int, half_angle_deg: float) -> F32:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1) * np.float32(np.tan(np.radians(half_angle_deg)))
    tangent2 = (axis**2 + axis[:, None] ** 2) / 2  # half field in the corner
    return (1 / (1 + tangent2) ** 2).astype(np.float32)


def _noisy(x: F32, record: SampleRecord, made: Profile) -> F32:
    """Poisson-Gaussian noise (Foi et al. 2008), keyed by the sample, correlated over `grain_px`."""
    strength = record.device.noise_scale
    if strength == 0 or made.shot_noise + made.read_noise == 0:
        return x
    grain = keyed_rng(record, "sensor noise").standard_normal(x.shape, dtype=np.float32)
    if made.grain_px > 0.2:
        grain = gaussian_filter(grain, (made.grain_px, made.grain_px, 0), mode="wrap")
        grain /= grain.std()
    sigma = np.sqrt(made.shot_noise * np.maximum(x, 0) + made.read_noise)
    return np.asarray(x + np.float32(strength) * sigma * grain, np.float32)
