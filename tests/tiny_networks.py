"""A bundle of networks so small that a test can run them."""

from __future__ import annotations

from pathlib import Path


def save_tiny_bundle(folder: Path) -> Path:
    """Write a bundle of very small, untrained networks whose calibrator asks for nine steps, whatever it sees."""
    import torch

    from srh_clinic.bundles import save_bundle
    from srh_clinic.classifiers import create_classifier
    from srh_clinic.rscd import create_calibrator, create_denoiser

    torch.manual_seed(0)
    denoiser = {"architecture": "overlap-unet", "channels": [8, 16], "down": [1, 1], "up": [1]}
    slim = {"channels": [8, 8, 8, 8], "stem_width": 8}
    calibrator = {"architecture": "step-regressor", "backbone": "resnet10t", "stage": 1, "options": slim}
    classifier = {"backbone": "resnet10t", "options": slim, "recipe": "opensrh", "patch": 256, "temperature": 1.0}
    nine_steps = create_calibrator(calibrator)
    with torch.no_grad():
        vote = nine_steps.get_submodule("head.vote")
        vote.get_parameter("weight").zero_()
        vote.get_parameter("bias").copy_(torch.tensor([0.3, 0.0]))
    save_bundle(
        folder,
        {
            "denoiser": (denoiser, create_denoiser(denoiser).state_dict()),
            "calibrator": (calibrator, nine_steps.state_dict()),
            "classifier": (classifier, create_classifier(classifier).state_dict()),
        },
    )
    return folder
