"""Reports: sections, tables, figures, and the page that shows them."""
