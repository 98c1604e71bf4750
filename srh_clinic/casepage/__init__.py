"""One offline HTML file in which a case is looked at: layers before and after restoration, flags, provenance."""

from srh_clinic.casepage.page import write_case_page

__all__ = ["write_case_page"]
