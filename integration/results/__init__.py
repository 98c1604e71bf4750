"""What came of a case, for other programs: DICOM objects beside the scan, in its study."""

from srh_clinic.integration.results.content import CaseFindings, Marked, Said, Squares, Values, run_of
from srh_clinic.integration.results.fhir import fhir_bundle
from srh_clinic.integration.results.qupath import geojson, patches_csv, qupath_script
from srh_clinic.integration.results.writing import require_free_results, result_objects_before, write_results

__all__ = [
    "CaseFindings",
    "Marked",
    "Said",
    "Squares",
    "Values",
    "fhir_bundle",
    "geojson",
    "patches_csv",
    "qupath_script",
    "require_free_results",
    "result_objects_before",
    "run_of",
    "write_results",
]
