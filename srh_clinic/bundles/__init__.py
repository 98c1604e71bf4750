"""Networks with everything that is needed to use and to judge them, in the layout of a MONAI Bundle."""

from srh_clinic.bundles.bundle import (
    BASELINES,
    PARTS,
    Bundle,
    annotate_bundle,
    bundle_exists,
    bundle_names,
    default_model_card,
    load_bundle,
    parent_reference,
    save_bundle,
    update_bundle,
    verify_bundle,
    weights_file,
)

__all__ = [
    "BASELINES",
    "PARTS",
    "Bundle",
    "annotate_bundle",
    "bundle_exists",
    "bundle_names",
    "default_model_card",
    "load_bundle",
    "parent_reference",
    "save_bundle",
    "update_bundle",
    "verify_bundle",
    "weights_file",
]
