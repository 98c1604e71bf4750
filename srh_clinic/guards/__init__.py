"""What a restored image shows that its input does not support."""

from srh_clinic.guards.evidence import Evidence, Place, residual_evidence

__all__ = ["Evidence", "Place", "residual_evidence"]
