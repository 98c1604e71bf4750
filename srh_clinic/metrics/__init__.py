"""How good a restoration is, and how sure of that one may be.

Distances of an image from its reference (:mod:`.distortion`), of one set of images from another (:mod:`.distribution` on the
features of :mod:`.extractors`, :mod:`.spectra` without a network), nuclei added and removed (:mod:`.nuclei`), seams
(:mod:`.seams`), patterns of period 2 (:mod:`.lattice`), what two channels share of a residual (:mod:`.sharing`), errors
without a reference (:mod:`.unreferenced`), and
intervals over independent units (:mod:`.intervals`, :mod:`.bootstrap`).
"""

from srh_clinic.estimates import Finding, Interval, Undefined, mean_with_interval, paired_difference, proportion
from srh_clinic.metrics.bootstrap import bootstrap_interval, paired_bootstrap_interval
from srh_clinic.metrics.distortion import channel_coherence, incoherent_noise, lpips, micro_ssim, psnr, ssim
from srh_clinic.metrics.distribution import CLIP_BANDWIDTH, frechet_distance, kid, printed_name, rbf_mmd
from srh_clinic.metrics.extractors import EXTRACTORS, Extractor, create_extractor
from srh_clinic.metrics.lattice import Period2, period_2_amplitudes
from srh_clinic.metrics.nuclei import NucleiChanges, detect_nuclei, nuclei_changes
from srh_clinic.metrics.seams import SeamRatio, seam_ratio
from srh_clinic.metrics.sharing import residual_sharing
from srh_clinic.metrics.spectra import radial_power, radial_spectrum, spectral_distance, spectrum_distance
from srh_clinic.metrics.unreferenced import Measured, NoiseModel, fit_noise, gain_over, measured, upsnr

__all__ = [
    "CLIP_BANDWIDTH",
    "EXTRACTORS",
    "Extractor",
    "Finding",
    "Interval",
    "Measured",
    "NoiseModel",
    "NucleiChanges",
    "Period2",
    "SeamRatio",
    "Undefined",
    "bootstrap_interval",
    "channel_coherence",
    "create_extractor",
    "detect_nuclei",
    "fit_noise",
    "frechet_distance",
    "gain_over",
    "incoherent_noise",
    "kid",
    "lpips",
    "mean_with_interval",
    "measured",
    "micro_ssim",
    "nuclei_changes",
    "paired_bootstrap_interval",
    "paired_difference",
    "period_2_amplitudes",
    "printed_name",
    "proportion",
    "psnr",
    "radial_power",
    "radial_spectrum",
    "rbf_mmd",
    "residual_sharing",
    "seam_ratio",
    "spectral_distance",
    "spectrum_distance",
    "ssim",
    "upsnr",
]
