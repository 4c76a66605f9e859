"""How pandas stores texts."""

import pandas as pd


def store_texts_in_python() -> None:
    """Store text columns as Python's own texts also where PyArrow is installed, which pandas would prefer.

    PyArrow cannot hold names of files that are not UTF-8. Modules that make tables call this when they are imported.
    """
    pd.options.mode.string_storage = "python"
