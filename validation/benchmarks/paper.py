"""What Lyu et al. (2025) report: reference rows for our tables, never claimed as ours.

Their images are human tissue (OpenSRH and unpublished pairs), their extractors Inception-v3 and CLIP, so no figure here
compares with one of ours as a number; the order of the methods does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """A method's row of Table 1 (``fid``, ``cmmd``) and of Table 2 (the rest); None where the paper gives nothing."""

    fid: float | None = None
    cmmd: float | None = None
    near_fid: float | None = None
    near_cmmd: float | None = None
    near_psnr: float | None = None
    near_ssim: float | None = None
    near_lpips: float | None = None


PAPER = {
    "input": PaperRow(53.22, 0.566, 47.64, 0.506, 26.97, 0.604, 0.598),
    "median": PaperRow(95.28, 1.099, 72.71, 1.047, 28.87, 0.791, 0.336),
    "deep_image_prior": PaperRow(57.56, 0.570, 41.51, 0.385, 29.27, 0.806, 0.284),
    "synthetic_noise": PaperRow(58.24, 0.356, 77.43, 1.987, 22.94, 0.662, 0.464),
    "cyclegan": PaperRow(37.26, 0.196, 22.03, 0.185, 28.39, 0.779, 0.667),
    "conditional_diffusion": PaperRow(47.66, 0.581, 34.58, 0.332, 28.07, 0.740, 0.377),
    "ccdf": PaperRow(43.21, 0.216, 30.80, 0.238, 28.04, 0.704, 0.359),
    "rrd": PaperRow(38.37, 0.337, 23.37, 0.270, 27.89, 0.682, 0.459),
    "rscd": PaperRow(32.02, 0.128, 21.05, 0.104, 29.06, 0.791),
    "rscd_no_recalibration": PaperRow(34.62, 0.137, 21.44, 0.111, 28.99, 0.781, 0.281),
    "rscd_nonparametric": PaperRow(35.53, 0.270, 22.77, 0.215, 27.90, 0.691, 0.418),
    "rscd_fixed_10": PaperRow(36.41, 0.174, 22.58, 0.163, 28.29, 0.721, 0.357),
    "rscd_fixed_50": PaperRow(42.06, 0.224, 29.72, 0.136, 29.05, 0.788, 0.335),
    "rscd_linear": PaperRow(38.71, 0.150, 32.71, 0.386, 29.06, 0.789, 0.283),
    "rscd_unaugmented": PaperRow(33.14, 0.133, 21.15, 0.105, 29.03, 0.786, 0.284),
}
"""By our names of the methods. The paper gives synthetic noise and Noise2Noise one row; RSCD's LPIPS is cut off in our copy of
the text, which says that it is the best."""
