"""DICOM results: structured report, presentation state and secondary capture; and reports of readers read back."""

import logging
import warnings

# The libraries quote names and numbers of patients in their warnings.
warnings.filterwarnings("ignore", module=r"(highdicom|pydicom)\b")
for _name in ("highdicom", "pydicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
