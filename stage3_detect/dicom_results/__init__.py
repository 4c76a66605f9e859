"""DICOM results: structured report, presentation state and secondary capture; and reports of readers read back."""
