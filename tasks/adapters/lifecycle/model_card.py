"""The card of a pack: what the model is, what it was made of, and what it must not be used for, in Markdown."""

from __future__ import annotations

from schemas.reports.life.packs import PackedWeights, PackManifest

_FROM_PROVENANCE = (
    ("data_version", "Training data (digest)"),
    ("splits_sha256", "Division of patients (digest)"),
    ("preprocess_version", "Preprocessing"),
    ("config_sha256", "Config (digest)"),
    ("code_version", "Trained by release"),
    ("created_utc", "Trained"),
)


def model_card(manifest: PackManifest) -> str:
    """What is known of the model from its own files; what they do not say is said to be missing."""
    many = len(manifest.models) > 1
    lines = [
        f"# Model {manifest.sha256[:12]}",
        "",
        "Scores of findings in screening mammograms, of each breast the mean of its views"
        + (f"; the mean of {len(manifest.models)} networks." if many else "."),
        "Research use only: no medical device, not to be used for a patient's care.",
        "",
        f"- Weights (SHA-256): {manifest.sha256}",
        f"- Packed by release: {manifest.code_version}",
        f"- Kept beside the weights: {', '.join(manifest.kept) or 'neither thresholds nor recalibration'}",
        *(f"- Terms of the training data: {sentence}" for sentence in manifest.terms),
    ]
    for index, packed in enumerate(manifest.models, 1):
        lines += ["", f"## Network {index}" if many else "## Network", "", *_network(packed)]
    return "\n".join([*lines, ""])


def _network(packed: PackedWeights) -> list[str]:
    images, preprocess = packed.network.get("image_size"), packed.preprocess
    spacing = preprocess.get("pixel_spacing_mm")
    tuning = packed.tuning_malignant_auroc
    return [
        f"- Kind: {packed.title}, images of {' x '.join(map(str, images)) if images else 'a size that is not said'} pixels",
        f"- Pixel spacing: {f'{spacing} mm, resampled' if spacing else 'as it comes, or not said'}",
        f"- AUROC for malignant findings on its tuning split: {'not said' if tuning is None else f'{tuning:.3f}'}",
        *(f"- {title}: {packed.provenance.get(name) or 'not said'}" for name, title in _FROM_PROVENANCE),
        f"- Scores of the check image: {', '.join(f'{float.fromhex(one):.6f}' for one in packed.check.scores)}, "
        f"by {packed.check.machine}",
    ]
