from .page import write_case_page as write_case_page
